// Sentences about the selection.

function factsOf(board, page) {
  const total = page.boards.reduce((sum, one) => sum + one.results, 0);
  return [`${shortened(board.suite, 40)} ${board.digest.slice(0, 8)}`, board.newest.slice(0, 10),
    page.choices[board.key].device.map((name) => shortened(name, 40)).join(", "), plural(total, "result")].filter(Boolean).join(" · ");
}

function boardWords(board, page, state) {
  const units = new Set(selected(page, state).map((point) => point.unit)).size;
  const setting = board.setting ? [", ", node("bdi", {}, shortened(board.setting, 160))] : [];
  const what = board.anchored ? "by bits saved at equal" : "unranked for want of an anchor, by";
  return [node("b", {}, board.title), ...setting, `: ${what} ${board.quality_label}, on ${plural(units, "unit")}`];
}

function noteOf(page, state, rows, all) {
  const board = page.boards.find((one) => one.key === state.board);
  const notes = [];
  if (!all.length) return "Nothing was measured in this selection. Press a chip again to widen it.";
  if (!rows.length) notes.push(`None of ${plural(all.length, "method")} is called so.`);
  const provisional = all.find((row) => row.provisional && row.rank !== null);
  if (provisional) notes.push(`Provisional: n = ${provisional.n} is below 8 units, so there are no tie groups.`);
  if (all.some((row) => row.tied)) notes.push("A bar before the rank marks what is tied with the best (Holm-adjusted sign-flip test, p > .05).");
  if (board.anchored) notes.push("Bits saved: the share of the anchor's bits that a method does without at equal quality, with its 95 % interval; the line is the anchor.");
  if (page.left_out.methods) {
    notes.push(`${plural(page.left_out.methods, "method")} with ${plural(page.left_out.points, "point")} stand in results.csv only.`);
  }
  return notes.join(" ");
}
