// Tabs and chips: links and buttons that change one part of the state.

const TABS = {
  sources: "sources", weights: "weights", activations: "weights + activations", training: "training", gradients: "gradients",
};
const TITLES = {bits: "bits", class: "rate", model: "model", data: "data set", device: "device"};

function tabRow(page, state) {
  const here = page.boards.find((board) => board.key === state.board);
  return Object.entries(TABS).map(([tab, text]) => {
    const first = firstOf(page.boards.filter((board) => board.tab === tab));
    if (!first) return node("a", {"aria-disabled": "true", title: "no results here yet"}, text);
    const chosen = {...state, ...emptied(), board: here.tab === tab ? here.key : first.key};
    return node("a", {href: fragmentOf(checked(chosen, page), page), "aria-current": here.tab === tab ? "true" : null}, text);
  });
}

// What a tab opens with: the first board that is ranked.
function firstOf(boards) {
  return boards.find((board) => board.anchored) || boards[0];
}

function emptied() {
  return {model: [], data: [], device: [], class: "", open: "", sort: ""};
}

function chipRows(page, state, change) {
  const here = page.boards.find((board) => board.key === state.board);
  const boards = page.boards.filter((board) => board.tab === here.tab);
  const rows = [];
  if (boards.length > 1) {
    rows.push(chips("board", boards.map((board) => chip(boardText(board, boards), board.key === here.key,
      () => change({...emptied(), board: board.key})))));
  }
  rows.push(chips("bits", ["", ...Object.keys(BITS)].map((bits) => chip(bits || "all", state.bits === bits, () => change({bits})))));
  const choices = page.choices[here.key];
  if (choices.class.length > 1) {
    rows.push(chips(TITLES.class, choices.class.map((one) => chip(one, state.class === one, () => change({class: one, open: ""})))));
  }
  for (const name of LISTS.filter((one) => choices[one].length > 1)) {
    rows.push(chips(TITLES[name], [chip("all", !state[name].length, () => change({[name]: []})),
      ...choices[name].map((one) => chip(one, state[name].includes(one), () => change({[name]: toggled(state[name], one)})))]));
  }
  return rows;
}

function boardText(board, boards) {
  const alike = boards.filter((one) => one.title === board.title);
  const title = board.title.replace(/ \([^()]*\)$/, "");
  const text = alike.length > 1 && board.setting ? `${title}, ${board.setting}` : title;
  const same = alike.filter((one) => one.setting === board.setting);
  return same.length > 1 ? `${text}, ${board.suite} ${board.digest.slice(0, 8)}` : text;
}

function chips(title, buttons) {
  const group = node("div", {class: "chips", role: "group", "aria-label": title}, node("span", {"aria-hidden": "true"}, title), ...buttons);
  group.dataset.group = title;
  return group;
}

function chip(text, pressed, act) {
  return node("button", {type: "button", "aria-pressed": String(pressed), title: text.length > 30 ? text : null, onclick: act}, node("bdi", {}, shortened(text, 80)));
}
