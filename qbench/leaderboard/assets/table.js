// The table of standings: a row a method, each of its cells text or a small drawing of numbers.

const COLUMNS = [
  {id: "rank", text: "rank", number: false, up: true, key: (s) => s.rank},
  {id: "name", text: "quantizer", number: false, up: true, key: (s) => s.label},
  {id: "saved", text: "bits saved", number: false, up: false, key: (s) => s.gain},
  {id: "rate", text: "true bits", number: true, up: true, key: (s) => s.bits_low},
  {id: "quality", text: "quality", number: true, up: false, key: (s) => s.quality},
  {id: "spark", text: "over bits", number: false, up: false, key: (s) => s.best},
  {id: "coverage", text: "coverage", number: true, up: false, key: (s) => s.coverage},
  {id: "n", text: "n", number: true, up: false, key: (s) => s.n},
  {id: "trust", text: "trust", number: false, up: false, key: (s) => s.reproduced},
];
const SHOWN = 25;

function sorted(rows, sort) {
  const column = COLUMNS.find((one) => one.id === sort.replace(/^-/, ""));
  if (!column) return rows;
  const way = sort.startsWith("-") ? -1 : 1;
  const absent = (value) => value === null || value === undefined || Number.isNaN(value);
  return [...rows].sort((a, b) => {
    const [x, y] = [column.key(a), column.key(b)];
    if (absent(x) || absent(y)) return absent(x) - absent(y);
    return way * (typeof x === "string" ? x.localeCompare(y) : x - y);
  });
}

function sortOf(state, column) {
  const usual = column.up ? column.id : `-${column.id}`;
  if (state.sort !== usual) return usual;
  return column.up ? `-${column.id}` : column.id;
}

function markSorting(head, sort) {
  const chosen = sort.replace(/^-/, "") || "rank";
  for (const cell of head.querySelectorAll("th")) {
    const here = cell.dataset.column === chosen;
    cell.setAttribute("aria-sort", !here ? "none" : sort.startsWith("-") ? "descending" : "ascending");
  }
}

function found(rows, query) {
  const words = query.toLowerCase().split(/\s+/).filter(Boolean);
  return rows.filter((row) => {
    const text = `${row.label} ${row.method} ${row.family} ${row.plugin}`.toLowerCase();
    return words.every((word) => text.includes(word));
  });
}

// The range that whiskers and sparklines share: zero and all but the lowest tenth, which ends at its edge.
function domainOf(values) {
  const numbers = values.filter(isNumber).sort((a, b) => a - b);
  if (!numbers.length) return [-1, 1];
  const at = (share) => numbers[Math.round(share * (numbers.length - 1))];
  const [low, high] = [Math.min(0, at(0.1)), Math.max(0, at(1))];
  const margin = 0.08 * Math.max(high - low, 0.1);
  return [low - margin, high + margin];
}

function scale([low, high], from, to) {
  return (value) => from + (to - from) * Math.min(1, Math.max(0, (value - low) / (high - low)));
}

function whisker(row, domain) {
  const x = scale(domain, 3, 117);
  const words = isNumber(row.low) ? `95 % interval ${saved(row.low)} to ${saved(row.high)}` : "no interval";
  const parts = [drawing("path", {class: "axis", d: `M${round(x(0))} 1V19`})];
  if (isNumber(row.low)) parts.push(drawing("path", {class: "whisker", d: `M${round(x(row.low))} 10H${round(x(row.high))}`}));
  parts.push(drawing("circle", {class: "dot", cx: round(x(row.gain)), cy: 10, r: 3.5}));
  return drawing("svg", {class: `f-${familyOf(row)}`, width: 120, height: 20, viewBox: "0 0 120 20", role: "img", "aria-label": words},
    drawing("title", {}, words), ...parts);
}

function spark(row, span, domain) {
  const x = scale(span.map(Math.log2), 3, 93), y = scale(domain, 21, 3);
  const words = row.curve.map(([bits, gain]) => `${saved(gain)} at ${fixed(bits, 1)} bits`).join(", ");
  const places = row.curve.map(([bits, gain]) => [round(x(Math.log2(bits))), round(y(gain))]);
  const line = places.length > 1 ? drawing("path", {class: "line", d: `M${places.map((p) => p.join(" ")).join("L")}`}) : null;
  return drawing("svg", {class: `f-${familyOf(row)}`, width: 96, height: 24, viewBox: "0 0 96 24", role: "img", "aria-label": words || "nothing to draw"},
    drawing("title", {}, words || "nothing to draw"),
    drawing("path", {class: "axis", d: `M3 ${round(y(0))}H93`}), line,
    ...places.map(([cx, cy]) => drawing("circle", {class: "dot", cx, cy, r: places.length > 1 ? 1.5 : 2.5})));
}

const round = (value) => Math.round(10 * value) / 10;
const familyOf = (row) => (Object.hasOwn(SHAPES, row.family) ? row.family : "other");

// The mean bits saved over units at each of a method's widths, to draw as a line.
function curveOf(points) {
  const widths = new Map();
  for (const point of points) {
    if (!isNumber(point.gain)) continue;
    const width = Math.max(1, Math.round(4 * point.rate) / 4);
    if (!widths.has(width)) widths.set(width, []);
    widths.get(width).push(point);
  }
  const mean = (values) => values.reduce((sum, value) => sum + value, 0) / values.length;
  return [...widths.values()]
    .map((many) => [mean(many.map((point) => point.rate)), mean(many.map((point) => point.gain))])
    .sort((a, b) => a[0] - b[0]);
}

function savedCell(row, domain) {
  if (isNumber(row.gain) && isNumber(row.n) && row.n > 0) {
    return [node("span", {class: "figure"}, saved(row.gain)), whisker(row, domain)];
  }
  return [node("span", {class: "words"}, row.why_unranked || "not measured against the anchor")];
}

function trustText(row) {
  return row.reproduced ? `reproduced ×${row.reproduced}` : "self-reported";
}

function nameCell(row, open, toggle) {
  const shown = node("button", {type: "button", "aria-expanded": String(open), onclick: toggle}, node("bdi", {}, shortened(row.quantizer)));
  const rest = row.label.startsWith(row.quantizer) ? row.label.slice(row.quantizer.length).trim() : row.label;
  const badge = row.plugin ? node("span", {class: "badge", title: `provided by the distribution ${shortened(row.plugin)}`}, node("bdi", {}, shortened(row.plugin, 40))) : null;
  return node("th", {scope: "row", class: "name"}, familyMark(row.family), shown, " ",
    rest ? node("small", {}, node("bdi", {}, shortened(rest))) : null, badge);
}

function shortened(text, most = 120) {
  return text.length > most ? `${text.slice(0, most)}…` : text;
}

function tableRow(row, view, toggle) {
  const cells = [
    node("td", {class: "rank c-rank"}, row.rank === null ? "–" : String(row.rank)),
    nameCell(row, row.method === view.open, toggle),
    node("td", {class: "saved c-saved"}, ...savedCell(row, view.domain)),
    node("td", {class: "number c-rate"}, range(row.bits_low, row.bits_high)),
    node("td", {class: "number c-quality"}, figure(row.quality)),
    node("td", {class: "spark c-spark"}, row.curve.length ? spark(row, view.span, view.curves) : "–"),
    node("td", {class: "number c-coverage"}, percent(row.coverage)),
    node("td", {class: "number c-n", title: `${plural(row.n, "unit")} of ${row.units}`}, String(row.n)),
    node("td", {class: "c-trust"}, trustText(row)),
  ];
  const tied = row.tied ? "row tied" : "row";
  const element = node("tr", {class: tied}, ...cells);
  if (row.tied) cells[0].title = "tied with the best: the difference is within chance";
  return element;
}
