// Beside the first figure: who is best at 2, 4 and 8 bits, in words.

function bestRows(page, board, standingsAt) {
  return ["2", "4", "8"].map((bits) => {
    const all = standingsAt(bits), judged = all.filter((row) => row.n > 0);
    const rows = judged.length ? judged : all;
    const first = rows.find((row) => row.rank === 1) || rows[0];
    const title = node("dt", {}, `at ${bits} bits`);
    if (!first) return node("div", {}, title, node("dd", {class: "big"}, "–"), node("dd", {class: "fine"}, "nothing measured here"));
    return node("div", {}, title, ...bestWords(first, rows, board));
  });
}

function bestWords(first, rows, board) {
  const who = node("dd", {class: "who"}, familyMark(first.family), " ", node("bdi", {}, shortened(first.label, 80)));
  if (!isNumber(first.gain)) {
    return [node("dd", {class: "big"}, figure(first.quality)), who, node("dd", {class: "fine quiet"}, board.quality_label)];
  }
  if (!(first.gain > 0) && first.own.some((point) => point.anchor)) return anchorWords(who, first, rows);
  const tied = rows.filter((row) => row.tied).length - 1;
  const fine = [isNumber(first.low) ? `${saved(first.low)} to ${saved(first.high)}` : "", `n = ${first.n}`,
    first.provisional ? "provisional" : "", tied > 0 ? `tied with ${tied} more` : ""];
  return [node("dd", {class: "big"}, fewerBits(first.gain)), who, node("dd", {class: "fine quiet"}, fine.filter(Boolean).join(", "))];
}

// Where the anchor itself is first.
function anchorWords(who, first, rows) {
  const others = rows.filter((row) => row.rank !== null).length - 1;
  const fine = [others ? `of ${plural(others, "other ranked method")}` : "", `n = ${first.n}`, first.provisional ? "provisional" : ""];
  return [node("dd", {class: "big"}, others ? "nothing beats the anchor" : "only the anchor is ranked"), who, node("dd", {class: "fine quiet"}, fine.filter(Boolean).join(", "))];
}

function bestNote(board) {
  return board.anchored ? "Than plain uniform rounding, the anchor, needs for the same quality."
    : `No anchor was measured here; shown is ${board.quality_label}.`;
}

function fewerBits(gain) {
  const share = saved(gain);
  if (share === "0 %") return "as many bits";
  return share.startsWith("−") ? `${share.slice(1)} more bits` : `${share} fewer bits`;
}
