// The page's data: columns, texts coded by their place in a sorted dictionary; see payload.py.

const ORDERED = ["method", "unit", "dataset", "spec"];

// What was sent at once is there at once: boards and the first chart. The rest is added to it.
async function readPage(sent) {
  const rest = sent.packed ? JSON.parse(await unpacked(sent.packed)) : sent;
  sent.charts.push(...rest.more);
  return page({...sent, points: rest.points, names: rest.names});
}

async function unpacked(base64) {
  const bytes = Uint8Array.from(atob(base64), (letter) => letter.charCodeAt(0));
  const stream = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("deflate"));
  return new Response(stream).text();
}

function page(sent) {
  const keys = sent.boards.map((board) => board.key);
  const byBoard = new Map(keys.map((key) => [key, []]));
  for (const point of unfolded(sent.points, {...sent.names, board: keys})) byBoard.get(point.board).push(point);
  const choices = {};
  for (const board of sent.boards) choices[board.key] = choicesOf(byBoard.get(board.key));
  return {...sent, points: byBoard, choices};
}

// Rows out of columns. A column without a value is null there, as NaN is in Python.
function unfolded(columns, names) {
  const count = columns.board.length;
  const rows = Array.from({length: count}, () => ({}));
  for (const [name, values] of Object.entries(columns)) {
    const texts = names[name];
    for (let i = 0; i < count; i++) rows[i][name] = texts ? texts[values[i]] : values[i];
    if (ORDERED.includes(name)) {
      for (let i = 0; i < count; i++) rows[i][`${name}_order`] = values[i];
    }
  }
  return rows;
}

function choicesOf(points) {
  const found = {};
  for (const [name, column] of [["model", "model"], ["data", "dataset"], ["device", "device"], ["class", "rate_class"]]) {
    found[name] = [...new Set(points.map((point) => point[column]))].filter(Boolean).sort();
  }
  found.class.sort((a, b) => CLASSES.indexOf(a) - CLASSES.indexOf(b));
  if (!found.class.length) found.class = ["fixed"];
  return found;
}

// The points that the chips leave: those of every method, whatever is searched for.
function selected(page, state) {
  return page.points.get(state.board).filter((point) => point.rate_class === state.class
    && (!state.model.length || state.model.includes(point.model))
    && (!state.data.length || state.data.includes(point.dataset))
    && (!state.device.length || state.device.includes(point.device)));
}

function withinBits(points, bits) {
  const [low, high] = BITS[bits] || [0, Infinity];
  return points.filter((point) => point.rate >= low && point.rate < high);
}
