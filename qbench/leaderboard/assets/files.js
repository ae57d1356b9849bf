// The selection as a CSV file, made in the page.

const EXPORTED = [
  "board", "quantizer", "label", "spec", "rate_class", "family", "model", "dataset", "optimizer", "unit", "device",
  "rate", "quality", "gain", "gain_se", "censored", "seeds", "coverage", "reproduced", "result_id",
];

function csvOf(points) {
  const lines = points.map((point) => EXPORTED.map((name) => csvCell(point[name])).join(","));
  return `${[EXPORTED.join(","), ...lines].join("\r\n")}\r\n`;
}

// A text that a spreadsheet would take for a formula gets an apostrophe before it.
function csvCell(value) {
  if (value === null || value === undefined) return "";
  if (typeof value === "number") return String(value);
  const harmless = /^[\s=+\-@]/.test(value) ? `'${value}` : value;
  return /[",\r\n]/.test(harmless) ? `"${harmless.replaceAll('"', '""')}"` : harmless;
}

function save(name, text) {
  const address = URL.createObjectURL(new Blob([text], {type: "text/csv;charset=utf-8"}));
  const link = node("a", {href: address, download: name});
  document.body.append(link);
  link.click();
  link.remove();
  setTimeout(() => URL.revokeObjectURL(address), 10000);
}
