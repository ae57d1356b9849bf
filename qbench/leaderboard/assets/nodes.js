// Elements with text in them; whatever comes from a result goes in as text and is never read as markup.

const SVG = "http://www.w3.org/2000/svg";

function node(tag, attributes = {}, ...children) {
  return filled(document.createElement(tag), attributes, children);
}

function drawing(tag, attributes = {}, ...children) {
  return filled(document.createElementNS(SVG, tag), attributes, children);
}

function filled(element, attributes, children) {
  for (const [name, value] of Object.entries(attributes)) {
    if (name.startsWith("on")) element.addEventListener(name.slice(2), value);
    else if (value !== null && value !== undefined && value !== false) element.setAttribute(name, value);
  }
  element.append(...children.filter((child) => child !== null && child !== undefined && child !== ""));
  return element;
}

const isNumber = (value) => typeof value === "number" && Number.isFinite(value);

function fixed(value, digits) {
  if (!isNumber(value)) return "–";
  const text = Math.abs(value).toFixed(digits);
  return (value < 0 && Number(text) !== 0 ? "−" : "") + text;
}

// The share of the anchor's bits that is saved; a gain is log2 of the anchor's bits over the method's.
function saved(gain) {
  if (!isNumber(gain)) return "–";
  const share = Math.round(100 * (1 - 2 ** -gain));
  return `${share < 0 ? "−" : ""}${Math.abs(share).toLocaleString("en")} %`;
}

// Four significant figures at most, as the page's data has them.
function figure(value) {
  if (!isNumber(value)) return "–";
  const size = Math.abs(value);
  if (size !== 0 && (size < 0.001 || size >= 1e6)) return value.toExponential(2).replace("-", "−");
  return fixed(value, size >= 100 ? 1 : size >= 10 ? 2 : size >= 1 ? 2 : 4);
}

// Halves up; what summing in another order changes is rounded away before.
function percent(value) {
  return isNumber(value) ? `${Math.round(Math.round(1e8 * value) / 1e6)} %` : "–";
}

function range(low, high) {
  const [from, to] = [fixed(low, 2), fixed(high, 2)];
  return from === to ? from : `${from}–${to}`;
}

function plural(count, one, several = `${one}s`) {
  return `${count.toLocaleString("en")} ${count === 1 ? one : several}`;
}

// The shape says the family too, so that colour is not needed to tell families apart.
const SHAPES = {
  scalar: "M6 1.5a4.5 4.5 0 1 0 0 9a4.5 4.5 0 1 0 0-9Z",
  vector: "M2 2h8v8h-8Z",
  lattice: "M6 .5L11.5 6L6 11.5L.5 6Z",
  stochastic: "M6 1L11.5 10.5H.5Z",
  optimized: "M.5 1.5h11L6 11Z",
  float: "M4.2 1h3.6v3.2h3.2v3.6h-3.2v3.2h-3.6v-3.2h-3.2v-3.6h3.2Z",
  binary: "M1.5 .5v11L11 6Z",
  other: "M10.5 .5v11L1 6Z",
};

function familyMark(family) {
  const known = Object.hasOwn(SHAPES, family) ? family : "other";
  return drawing("svg", {width: 12, height: 12, viewBox: "0 0 12 12", class: `f-${known}`, role: "img", "aria-label": known},
    drawing("path", {d: SHAPES[known]}));
}
