// Rows of the table: standings with what is drawn beside them.

const OWN = "qbench-suite";

function rowsOf(page, state, bits) {
  const chosen = selected(page, state);
  const points = withinBits(chosen, bits);
  const [groups, everywhere] = [grouped(points), grouped(chosen)];
  const {better} = page.boards.find((board) => board.key === state.board);
  return standings(points, {better}).filter((standing) => standing.rate_class === state.class).map((standing) => {
    const own = groups.get(standing.method) || [];
    const curve = curveOf(everywhere.get(standing.method) || []);
    return {
      ...standing,
      quantizer: own.length ? own[0].quantizer : standing.label,
      plugin: standing.plugin === OWN ? "" : standing.plugin,
      own,
      curve,
      best: curve.length ? Math.max(...curve.map(([, gain]) => gain)) : null,
    };
  });
}

function grouped(points) {
  const groups = new Map();
  for (const point of points) {
    if (!groups.has(point.method)) groups.set(point.method, []);
    groups.get(point.method).push(point);
  }
  for (const own of groups.values()) own.sort((a, b) => a.unit_order - b.unit_order || a.rate - b.rate);
  return groups;
}

// What all rows of a table share: the ranges of their drawings, and what is said of the whole board.
function viewOf(page, state, rows) {
  const widths = rows.flatMap((row) => row.curve.map(([bits]) => bits));
  const [least, most] = [Math.min(...widths, 2), Math.max(...widths, 4)];
  return {
    board: page.boards.find((board) => board.key === state.board),
    failures: page.failures[state.board] || [],
    open: state.open,
    domain: domainOf(rows.map((row) => row.gain)),
    span: [Math.max(0.5, least), most],
    curves: domainOf(rows.flatMap((row) => row.curve.map(([, gain]) => gain))),
  };
}
