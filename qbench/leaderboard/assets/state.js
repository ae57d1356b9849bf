// What is selected is the fragment of the address, whole: links are permanent, back and forward work.

const LISTS = ["model", "data", "device"];
const BITS = {1: [0, 1.5], 2: [1.5, 2.5], 3: [2.5, 3.5], 4: [3.5, 5], 6: [5, 7], 8: [7, 12]};
const CLASSES = ["fixed", "coded"];
const THEMES = ["light", "dark"];

function readState(fragment) {
  const given = {};
  for (const part of fragment.replace(/^#/, "").split("&")) {
    const [name, value = ""] = part.split(/=(.*)/s);
    given[name] = value.slice(0, 4000);
  }
  const state = {
    board: decoded(given.board), bits: given.bits, class: given.class, sort: decoded(given.sort),
    q: decoded(given.q).slice(0, 200), open: decoded(given.open), theme: given.theme,
  };
  for (const name of LISTS) {
    state[name] = (given[name] || "").split(",").filter(Boolean).map(decoded);
  }
  return state;
}

function decoded(text) {
  try {
    return decodeURIComponent(text || "");
  } catch {
    return "";
  }
}

// Only what is known stays: a link may be old, or made up.
function checked(state, page) {
  const board = page.boards.find((one) => one.key === state.board) || page.boards[0];
  const choices = page.choices[board.key];
  const sort = state.sort.replace(/^-/, "");
  return {
    board: board.key,
    bits: Object.hasOwn(BITS, state.bits || "") ? state.bits : "",
    class: choices.class.includes(state.class) ? state.class : choices.class[0],
    model: state.model.filter((name) => choices.model.includes(name)),
    data: state.data.filter((name) => choices.data.includes(name)),
    device: state.device.filter((name) => choices.device.includes(name)),
    sort: COLUMNS.some((column) => column.id === sort) ? state.sort : "",
    q: state.q,
    open: state.open,
    theme: THEMES.includes(state.theme) ? state.theme : "",
  };
}

// What a link asks for that is not here, with its name, and what is shown instead.
function missing(asked, state, page) {
  const board = page.boards.find((one) => one.key === state.board);
  const found = [];
  if (asked.board && asked.board !== state.board) found.push(["board", [asked.board], board.title]);
  if (asked.bits && asked.bits !== state.bits) found.push(["bits", [asked.bits], "all bits"]);
  if (asked.class && asked.class !== state.class) found.push(["rate", [asked.class], `${state.class} rate`]);
  for (const name of LISTS) {
    const absent = asked[name].filter((one) => !state[name].includes(one));
    if (absent.length) found.push([TITLES[name], absent, state[name].join(", ") || `all ${TITLES[name]}s`]);
  }
  return found;
}

function fragmentOf(state, page) {
  const first = page.boards[0].key;
  const parts = [];
  for (const [name, value] of Object.entries(state)) {
    const text = Array.isArray(value) ? value.map(encodeURIComponent).join(",") : encodeURIComponent(value);
    const usual = (name === "board" && value === first)
      || (name === "class" && value === page.choices[state.board].class[0]);
    if (text && !usual) parts.push(`${name}=${text}`);
  }
  return parts.length ? `#${parts.join("&")}` : "#";
}

function toggled(list, value) {
  return list.includes(value) ? list.filter((one) => one !== value) : [...list, value];
}
