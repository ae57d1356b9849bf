// Sentences about the selection.

// Of the board that is shown alone, as _facts in page.py says it.
function factsOf(board, page) {
  return [`${shortened(board.suite, 40)} ${board.digest.slice(0, 8)}`, board.newest.slice(0, 10),
    page.choices[board.key].device.map((name) => shortened(name, 40)).join(", "), `${plural(board.results, "result")} on this board`].filter(Boolean).join(" · ");
}

// Of a link that asks for more than there is.
function missingWords(found) {
  if (!found.length) return [];
  const parts = found.flatMap(([name, values], place) => [`${place ? ", " : ""}${name} `, node("bdi", {}, shortened(values.join(", "), 60))]);
  return ["The link asks for what is not here: ", ...parts, `. Shown instead: ${found.map(([, , instead]) => shortened(instead, 80)).join(", ")}.`];
}

function boardWords(board, page, state, rows) {
  const points = withinBits(selected(page, state), state.bits);
  const setting = board.setting ? [", ", node("bdi", {}, shortened(board.setting, 160))] : [];
  const what = board.anchored ? "by bits saved at equal" : "unranked for want of an anchor, by";
  const total = new Set(points.map((point) => point.unit)).size;
  const counted = board.anchored && rows.length ? rows[0].units : total;
  const units = points.length ? unitsSpoken(counted, total, nounOfUnits(points)) : "";
  return [node("b", {}, board.title), ...setting, `: ${what} ${board.quality_label}${units}.`];
}

// The twin of units_spoken in wording.py: how many units a ranking is over, of those that were measured.
function unitsSpoken(counted, total, noun) {
  if (counted === total) return `, over ${plural(total, "unit")} (${total === 1 ? noun.slice(0, -1) : noun})`;
  return `. ${counted} of ${plural(total, "unit")} (${noun}) count: those that at least half of the methods have`;
}

// What the units of these points are; the twin of noun_of_units.
function nounOfUnits(points) {
  if (!points.some((point) => point.model)) return "data sets";
  const pairs = new Set(points.map((point) => JSON.stringify([point.model, point.dataset])));
  return new Set(points.map((point) => point.unit)).size === pairs.size ? "model and data set pairs" : "trained networks";
}

function noteOf(page, state, rows, all) {
  const board = page.boards.find((one) => one.key === state.board);
  const notes = [];
  if (!all.length) return "Nothing was measured in this selection. Press a chip again to widen it.";
  if (!rows.length) notes.push(`None of ${plural(all.length, "method")} is called so.`);
  const provisional = all.find((row) => row.provisional && row.rank !== null);
  if (provisional) notes.push(`Provisional: n = ${plural(provisional.units, "unit")}, fewer than ${FEW}, so there are no tie groups.`);
  if (all.some((row) => row.tied)) notes.push("A bar before the rank marks what is tied with the best (Holm-adjusted sign-flip test, p > .05).");
  if (board.anchored) notes.push("Bits saved: the share of the anchor's bits that a method does without at equal quality, with its 95 % interval; the line is the anchor.");
  if (page.left_out.methods) {
    notes.push(`${plural(page.left_out.methods, "method")} with ${plural(page.left_out.points, "point")} stand in results.csv only.`);
  }
  return notes.join(" ");
}

// What the charts of the selection show, in numbers.
function chartWords(way, marks, board, state) {
  const known = marks.filter((mark) => isNumber(mark[way.field]) && isNumber(mark.bits));
  const where = `${board.title}, ${[`${state.class} rate`, state.bits ? `at ${plural(Number(state.bits), "bit")}` : "", ...state.model,
    ...state.data, ...state.device].filter(Boolean).map((text) => shortened(text, 40)).join(", ")}`;
  if (!known.length) return `Nothing to draw of ${where}.`;
  return way.cells ? cellWords(way, known, where) : frontWords(way, known, where);
}

function frontWords(way, marks, where) {
  const codes = ofWholeCodes(way, marks);
  const told = way.field === "drop" ? (value) => fixed(value, 2) : figure;
  const parts = [2, 4, 8].flatMap((bits) => {
    const near = codes.filter((code) => Math.abs(code.bits - bits) <= 0.5);
    const best = near.reduce((a, b) => (a && way.better * a.value >= way.better * b.value ? a : b), null);
    return best ? [`near ${bits} bits ${shortened(best.label, 48)} is best with ${told(best.value)}`] : [];
  });
  return `${capital(way.words)} of ${where}, ${plural(codes.length, "code")}: ${parts.join("; ") || "none near 2, 4 or 8 bits"}.`;
}

// Codes that have every unit that at least half of the methods have, with means over these units.
function ofWholeCodes(way, marks) {
  const methods = (some) => new Set(some.map((mark) => mark.method)).size;
  const units = [...groupsOf(marks, (mark) => mark.unit).values()];
  const most = Math.max(...units.map(methods)), all = methods(marks);
  const counted = units.filter((own) => 2 * methods(own) >= all || methods(own) === most).flat();
  const codes = [...groupsOf(counted, (mark) => JSON.stringify([mark.label, mark.spec])).values()].map((own) => ({
    label: own[0].label, units: new Set(own.map((mark) => mark.unit)).size, bits: meanOf(own, "bits"),
    value: way.logarithmic ? geometric(own, way.field) : meanOf(own, way.field),
  }));
  const whole = Math.max(...codes.map((code) => code.units));
  return codes.filter((code) => code.units === whole);
}

function geometric(marks, name) {
  return Math.exp(marks.reduce((sum, mark) => sum + Math.log(Math.max(1e-12, mark[name])), 0) / marks.length);
}

function cellWords(way, marks, where) {
  const place = (mark) => mark.model || mark.dataset || mark.unit;
  const told = way.field === "gain" ? saved : figure;
  const means = [...groupsOf(marks, (mark) => mark.method).values()].map((own) => ({
    label: shortened(own[0].label, 48), ranked: own[0].ranked,
    value: meanOf([...groupsOf(own, place).values()].map((cell) => ({value: meanOf(cell, way.field)})), "value"),
  })).sort((a, b) => way.better * (b.value - a.value));
  const judged = means.some((one) => one.ranked) ? means.filter((one) => one.ranked) : means;
  const [best, worst] = [judged.slice(0, 3), judged.slice(-1)].map((some) => some.map((one) => `${one.label} ${told(one.value)}`).join(", "));
  const columns = plural(groupsOf(marks, place).size, marks.some((mark) => mark.model) ? "model" : "data set");
  return `${capital(way.words)} of ${plural(means.length, "method")} on ${columns}, ${where}. Best on average: ${best}; worst: ${worst}.`;
}

function groupsOf(rows, key) {
  const groups = new Map();
  for (const row of rows) {
    if (!groups.has(key(row))) groups.set(key(row), []);
    groups.get(key(row)).push(row);
  }
  return groups;
}

const capital = (text) => text.charAt(0).toUpperCase() + text.slice(1);
