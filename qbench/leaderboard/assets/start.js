// Everything on the page follows from its data and the state; a change draws the table anew.

const byId = (id) => document.getElementById(id);

async function start() {
  const sent = JSON.parse(byId("payload").textContent);
  let state = readState(location.hash);
  let all = false;
  const remembered = new Map();
  const night = matchMedia("(prefers-color-scheme: dark)");
  const dark = () => (state.theme ? state.theme === "dark" : night.matches);
  const look = () => ({state, dark: dark(), board: () => page.boards.find((one) => one.key === state.board), marks: () => marksOf(withinBits(selected(page, state), state.bits), ranked(state.bits), state.q)});
  const charts = chartsOf(sent, look);
  await charts.first();
  const page = await readPage(sent);
  if (!page.boards.length) return charts.start();
  take(state);

  function ranked(bits) {
    const key = JSON.stringify([state.board, state.class, bits, state.model, state.data, state.device]);
    if (!remembered.has(key)) {
      if (remembered.size > 40) remembered.clear();
      remembered.set(key, rowsOf(page, state, bits));
    }
    return remembered.get(key);
  }

  function change(patch, quietly = false) {
    const [before, wasDark] = [state, dark()];
    state = checked({...state, ...patch}, page);
    byId("missing").replaceChildren();
    const address = fragmentOf(state, page);
    if (address !== (location.hash || "#")) history[quietly ? "replaceState" : "pushState"](null, "", address);
    show(before, wasDark);
  }

  // The state of a link: what of it is not here is said, and its address put right.
  function take(asked) {
    state = checked(asked, page);
    const found = missing(asked, state, page);
    byId("missing").replaceChildren(...missingWords(found));
    if (found.length) history.replaceState(null, "", fragmentOf(state, page));
  }

  function follow() {
    if (location.hash && !location.hash.includes("=")) return;
    if ((location.hash || "#") === fragmentOf(state, page)) return;
    const [before, wasDark] = [state, dark()];
    take(readState(location.hash));
    show(before, wasDark);
  }

  function show(before, wasDark) {
    if (!before || before.board !== state.board) all = false;
    document.documentElement.dataset.theme = dark() ? "dark" : "light";
    byId("theme").textContent = dark() ? "light" : "dark";
    byId("theme").setAttribute("aria-label", dark() ? "Use light colours" : "Use dark colours");
    const selection = ({theme, open, sort, ...rest}) => JSON.stringify(rest);
    if (before && JSON.stringify({...before, theme: ""}) === JSON.stringify({...state, theme: ""})) return wasDark !== dark() && charts.again();
    showChoices();
    showTable();
    if (!before) return undefined;
    if (wasDark !== dark()) charts.again();
    else if (selection(before) !== selection(state)) charts.select();
    return undefined;
  }

  function showChoices() {
    const board = page.boards.find((one) => one.key === state.board);
    keepingFocus(() => {
      byId("tabs").replaceChildren(...tabRow(page, state));
      byId("filters").replaceChildren(...chipRows(page, state, change));
    });
    byId("facts").textContent = factsOf(board, page);
    byId("board").replaceChildren(...boardWords(board, page, state, ranked(state.bits)));
    document.querySelector("th.c-quality").title = board.quality_label;
    byId("best").querySelector("h2").textContent = `Best for ${page.boards.filter((one) => one.tab === board.tab).length > 1 ? boardText(board, page.boards) : board.title}`;
    byId("best").querySelector("dl").replaceChildren(...bestRows(page, board, ranked));
    byId("best").querySelector("dl + p").textContent = bestNote(board);
    if (byId("search").value !== state.q) byId("search").value = state.q;
  }

  function showTable() {
    const rows = sorted(found(ranked(state.bits), state.q), state.sort);
    const view = viewOf(page, state, ranked(state.bits));
    const body = byId("rows");
    markSorting(byId("table").tHead, state.sort);
    keepingFocus(() => body.replaceChildren(...rows.slice(0, all ? rows.length : SHOWN).flatMap((row) => {
      const element = tableRow(row, view, () => change({open: state.open === row.method ? "" : row.method}));
      return row.method === state.open ? [element, detailRow(row, view)] : [element];
    })));
    byId("more").replaceChildren(...(!all && rows.length > SHOWN ? [node("button", {type: "button", class: "plain",
      onclick: () => { all = true; showTable(); }}, `Show all ${rows.length.toLocaleString("en")} methods`)] : []));
    byId("note").textContent = noteOf(page, state, rows, ranked(state.bits));
  }

  function wire() {
    byId("table").tHead.addEventListener("click", (event) => {
      const button = event.target.closest("button");
      const column = button && COLUMNS.find((one) => one.id === button.closest("th").dataset.column);
      if (column) change({sort: sortOf(state, column)});
    });
    byId("search").addEventListener("input", (event) => change({q: event.target.value.slice(0, 200)}, true));
    byId("theme").addEventListener("click", () => change({theme: dark() ? "light" : "dark"}));
    byId("download").addEventListener("click", () => {
      const kept = new Set(found(ranked(state.bits), state.q).map((row) => row.method));
      save(`qbench-${state.board}.csv`, csvOf(withinBits(selected(page, state), state.bits).filter((point) => kept.has(point.method))));
    });
    document.addEventListener("keydown", (event) => {
      if (event.key !== "Escape") return;
      tooltip(null, event, null, null);
      if (state.open) change({open: ""});
      else if (state.q) change({q: ""});
    });
    document.addEventListener("click", goTo);
    addEventListener("popstate", follow);
    addEventListener("hashchange", follow);
    night.addEventListener("change", () => { show({...state}, !dark()); });
    for (const id of ["theme", "filters", "tools"]) byId(id).hidden = false;
  }

  wire();
  await charts.start();
  show(null);
  window.qbench = Object.freeze({page, standings, rowsOf: (bits = state.bits) => ranked(bits)});
  document.documentElement.dataset.ready = "yes";
}

// Sections are gone to without touching the fragment, which is the state.
function goTo(event) {
  const link = event.target.closest("a[data-goto]");
  if (!link) return;
  event.preventDefault();
  byId(link.dataset.goto).scrollIntoView();
  byId(link.dataset.goto).focus({preventScroll: true});
}

// What is drawn anew keeps the focus where it was: on the element of the same place in its group.
function keepingFocus(draw) {
  const active = document.activeElement;
  const group = active && active.closest("[data-group], #tabs, #rows");
  const path = group && {id: group.id, name: group.dataset.group, text: active.textContent};
  draw();
  if (!path || document.contains(active)) return;
  const place = path.id ? byId(path.id) : document.querySelector(`[data-group="${CSS.escape(path.name)}"]`);
  const same = place && [...place.querySelectorAll("button, a")].find((one) => one.textContent === path.text);
  if (same) same.focus({preventScroll: true});
}

start();
