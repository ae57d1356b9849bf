// A row opened in place: what the method is, each of its results, and the command that measures one again.

const MOST_RESULTS = 400;

function detailRow(row, view) {
  const left = node("div", {}, about(row, view), failures(row, view));
  const right = node("div", {}, again(row, view), results(row, view));
  return node("tr", {class: "detail", id: "detail"}, node("td", {colspan: columnsShown()},
    node("div", {class: "panel"}, left, right)));
}

// Narrow windows have fewer columns, and a cell across more than there are would make some.
function columnsShown() {
  return [...document.querySelectorAll("#table > thead th")].filter((cell) => cell.offsetParent !== null).length;
}

addEventListener("resize", () => {
  const cell = document.querySelector("#detail > td");
  if (cell) cell.colSpan = columnsShown();
});

function about(row, view) {
  const first = row.own[0] || {};
  const pairs = [
    ["quantizer", row.quantizer],
    ["family", row.family],
    ["bits saved", isNumber(row.gain) ? savedWords(row) : "none"],
    ["no rank", row.why_unranked],
    ["true bits", `${range(row.bits_low, row.bits_high)} per element, ${row.rate_class}`],
    ["quality", `${figure(row.quality)}, ${view.board.quality_label}, at its median bits`],
    ["units", `${row.n} of ${row.units}, ${plural(row.seeds, "seed")}, ${plural(row.own.length, "point")}`],
    ["outside", row.censored ? `${plural(row.censored, "point")} beyond the anchor's range, not in the mean` : ""],
    ["coverage", `${percent(row.coverage)} of the parameters are quantized`],
    ["trust", trustText(row)],
    ["paper", first.reference],
    ["provided by", row.plugin],
    ...parameters(first.spec || ""),
    ["measured on", [...new Set(row.own.map((point) => point.environment))].join("; ")],
  ];
  const shown = pairs.filter(([, text]) => text !== "" && text !== undefined && text !== null);
  return node("section", {}, node("h3", {}, "What it is"), node("dl", {},
    ...shown.flatMap(([name, text]) => [node("dt", {}, name), node("dd", {}, node("bdi", {}, shortened(String(text), 1000)))])));
}

function savedWords(row) {
  const interval = isNumber(row.low) ? `, 95 % interval ${saved(row.low)} to ${saved(row.high)}` : "";
  return `${saved(row.gain)} at equal quality${interval}${row.provisional ? ", provisional" : ""}`;
}

// The outermost parameters of "name(key=value,...)"; brackets and quoted texts hold commas of their own.
function parameters(spec) {
  const inside = spec.match(/^[^(]*\((.*)\)$/s);
  if (!inside || spec.length > 4000) return [];
  const parts = [""];
  let depth = 0, inText = false;
  for (let i = 0; i < inside[1].length; i++) {
    const letter = inside[1][i];
    if (letter === '"' && inside[1][i - 1] !== "\\") inText = !inText;
    if (!inText) depth += "([".includes(letter) - ")]".includes(letter);
    if (letter === "," && !inText && depth === 0) parts.push("");
    else parts[parts.length - 1] += letter;
  }
  return parts.filter((part) => part.includes("=")).map((part) => {
    const [name, value] = part.split(/=(.*)/s);
    return [name, value];
  });
}

function failures(row, view) {
  const own = view.failures.filter((one) => one.quantizer === row.quantizer);
  if (!row.failed && !own.length) return null;
  return node("section", {}, node("h3", {}, `Failures${row.failed ? `: ${row.failed}` : ""}`), node("dl", {},
    ...own.slice(0, 8).flatMap((one) => [node("dt", {}, `${one.status} ×${one.count}`), node("dd", {}, node("bdi", {}, one.error))])));
}

function again(row, view) {
  const first = row.own[0];
  if (!first || !first.result_id) return null;
  const text = command(first, view.board);
  return node("section", {}, node("h3", {}, `Measure it again: ${shortened(first.unit, 80)}, ${fixed(first.rate, 2)} bits`),
    node("p", {class: "command"}, node("code", {}, text), copier(() => text, "Copy the command")),
    node("p", {class: "quiet"}, "Or, with results.parquet merged into a registry, ", node("code", {}, `qbench reproduce ${first.result_id}`), "."));
}

const RESULT_COLUMNS = {
  unit: "model, data set", bits: "true bits", quality: "quality", saved: "bits saved", seeds: "seeds", trust: "trust", copy: "",
};

function results(row, view) {
  const heads = Object.entries(RESULT_COLUMNS).map(([id, text]) => node("th", {scope: "col", class: `r-${id}${["unit", "trust", "copy"].includes(id) ? "" : " number"}`},
    text || node("span", {class: "unseen"}, "command")));
  const body = row.own.slice(0, MOST_RESULTS).map((point) => resultRow(point, view));
  const rest = row.own.length - body.length;
  return node("section", {}, node("h3", {}, "Every result"),
    node("div", {class: "scroll", tabindex: 0, role: "region", "aria-label": "Every result"},
      node("table", {}, node("thead", {}, node("tr", {}, ...heads)), node("tbody", {}, ...body))),
    rest > 0 ? node("p", {class: "quiet"}, `${plural(rest, "more result")} in the CSV of this selection.`) : null);
}

function resultRow(point, view) {
  const label = `Copy the command for ${shortened(point.unit)} at ${fixed(point.rate, 2)} bits`;
  const share = point.censored ? (point.censored < 0 ? "below the anchor" : "above the anchor") : saved(point.gain);
  return node("tr", {},
    node("th", {scope: "row", class: "r-unit"}, node("bdi", {}, shortened(point.unit))),
    node("td", {class: "number r-bits"}, fixed(point.rate, 3)),
    node("td", {class: "number r-quality"}, figure(point.quality)),
    node("td", {class: "number r-saved"}, share),
    node("td", {class: "number r-seeds"}, String(point.seeds)),
    node("td", {class: "r-trust"}, trustText(point)),
    node("td", {class: "r-copy"}, point.result_id ? copier(() => command(point, view.board), label) : null));
}

function command(point, board) {
  const words = ["qbench", "run", "--suite", board.suite, "--select", `cell_id=${point.cell_id}`,
    "--quantizer", point.spec, "--device", point.device, "--force"];
  return words.map(quoted).join(" ");
}

// As a POSIX shell reads it back; what could steer a terminal is left out.
function quoted(word) {
  const plain = [...String(word)].filter((letter) => !/[\p{C}\p{Zl}\p{Zp}]/u.test(letter)).join("");
  return /^[A-Za-z0-9_@%+=:,./-]+$/.test(plain) ? plain : `'${plain.replaceAll("'", `'"'"'`)}'`;
}

function copier(text, label) {
  return node("button", {type: "button", class: "plain", "aria-label": label, onclick: async (event) => {
    const button = event.currentTarget;
    const done = await copied(text());
    button.textContent = done ? "copied" : "press Ctrl+C";
    document.getElementById("copied").textContent = done ? "copied" : "";
    setTimeout(() => { button.textContent = "copy"; }, 1500);
  }}, "copy");
}

async function copied(text) {
  try {
    await navigator.clipboard.writeText(text);
    return true;
  } catch {
    const area = node("textarea", {class: "unseen", "aria-hidden": "true"});
    area.value = text;
    document.body.append(area);
    area.select();
    const done = document.execCommand("copy");
    area.remove();
    return done;
  }
}
