// The twin of standings.py, function by function: who saves how many bits, with ranks, intervals and ties.

const RATE_CLASSES = ["fixed", "coded"], FEW = 8, LEVEL = 0.05;

// points: rows of one board; an absent number is null there, and NaN from here on.
function standings(points, {bits = null, device = null, better = 1, draws = DRAWS} = {}) {
  let chosen = points;
  if (bits !== null) chosen = chosen.filter((point) => point.rate >= bits[0] && point.rate < bits[1]);
  if (device !== null) chosen = chosen.filter((point) => point.device === device);
  return RATE_CLASSES.flatMap((rateClass) => ofClass(chosen.filter((point) => point.rate_class === rateClass), rateClass, better, draws));
}

// How many of the anchor's bits a gain saves at equal quality, in percent; negative where it costs.
function savedPercent(gain) {
  return 100 * (1 - 2 ** -gain);
}

function ofClass(points, rateClass, better, draws) {
  if (!points.length) return [];
  const matrix = counting(matrixOf(points));
  const ranked = matrix.gain.map((row) => row.length > 0 && row.every(finite));
  const gain = matrix.gain.map(meanOfFinite);
  const bounds = intervals(matrix.gain, matrix.error, matrix.datasets, draws);
  const tied = tiedOf(matrix.gain, gain, ranked);
  const provisional = matrix.units.length < FEW, counts = new Set(matrix.units);
  const found = matrix.methods.map((own, at) => ({
    ...factsOfMethod(counted(own, counts)),
    rate_class: rateClass,
    rank: ranked[at] ? 1 + gain.filter((other, place) => ranked[place] && other > gain[at] + 1e-12).length : null,
    gain: gain[at],
    low: bounds[at][0],
    high: bounds[at][1],
    tied: ranked[at] && !provisional ? tied[at] : null,
    provisional,
    n: matrix.gain[at].filter(finite).length,
    units: matrix.units.length,
    why_unranked: ranked[at] ? "" : why(matrix, at),
  }));
  return found.sort((a, b) => orderOf(a, b, better));
}

// Methods and units in the order of their texts: the order of their codes.
function matrixOf(points) {
  const methods = groupedBy(points, "method_order"), units = groupedBy(points, "unit_order");
  const place = new Map([...units.keys()].map((unit, number) => [unit, number]));
  const rows = [...methods.values()];
  const cells = rows.map((own) => {
    const cell = Array.from(units, () => []);
    for (const point of own) cell[place.get(point.unit_order)].push(point);
    return cell;
  });
  return {
    methods: rows,
    units: [...units.keys()],
    datasets: [...units.values()].map((own) => own[own.length - 1].dataset_order),
    gain: cells.map((row) => row.map((cell) => meanOfFinite(cell.map((point) => point.gain)))),
    error: cells.map((row) => row.map((cell) => meanOfFinite(cell.map((point) => point.gain_se)))),
    judged: cells.map((row) => row.map((cell) => cell.some((point) => isNumber(point.gain) || point.censored !== 0))),
  };
}

function groupedBy(points, name) {
  const groups = new Map([...new Set(points.map((point) => point[name]))].sort((a, b) => a - b).map((key) => [key, []]));
  for (const point of points) groups.get(point[name]).push(point);
  return groups;
}

function meanOfFinite(values) {
  const known = values.filter(finite);
  return known.length ? total(known) / known.length : NaN;
}

// Only the units that count: at least half of the methods that are judged anywhere are judged in them.
function counting(matrix) {
  const methods = matrix.judged.filter((row) => row.some(Boolean)).length;
  const kept = matrix.units.map((_, unit) => {
    const count = matrix.judged.filter((row) => row[unit]).length;
    return count > 0 && 2 * count >= methods;
  });
  const only = (row) => row.filter((_, unit) => kept[unit]);
  return {
    methods: matrix.methods, units: only(matrix.units), datasets: only(matrix.datasets),
    gain: matrix.gain.map(only), error: matrix.error.map(only), judged: matrix.judged.map(only),
  };
}

// Which are not told from the best of the ranked ones, itself among them.
function tiedOf(gains, mean, ranked) {
  const tied = gains.map(() => false);
  const candidates = gains.map((_, at) => at).filter((at) => ranked[at]);
  if (!candidates.length) return tied;
  const best = candidates.reduce((a, b) => (mean[b] > mean[a] ? b : a));
  const others = candidates.filter((at) => at !== best);
  tied[best] = true;
  const differences = others.map((at) => gains[best].map((gain, unit) => gain - gains[at][unit]));
  holm(signFlip(differences)).forEach((p, number) => { tied[others[number]] = p > LEVEL; });
  return tied;
}

function why(matrix, method) {
  const units = matrix.units.length;
  if (!matrix.judged.some((row) => row.some(Boolean))) return "nothing to compare with: no anchor curve here";
  const missing = matrix.judged[method].filter((there) => !there).length;
  const outside = units - missing - matrix.gain[method].filter(finite).length;
  const said = missing ? [`not measured on ${missing} of ${units} units`] : [];
  if (outside) said.push(`outside the anchor's range on ${outside} of ${units} units`);
  return said.join("; ");
}

// The points of a method in the units that count; all of them where there are none.
function counted(points, units) {
  const own = points.filter((point) => units.has(point.unit_order));
  return own.length ? own : points;
}

function factsOfMethod(points) {
  const rates = points.map((point) => point.rate);
  const {method, method_order, label, family, plugin, failed} = points[0];
  return {
    method, method_order, label, family, plugin, failed,
    seeds: least(points.map((point) => point.seeds)),
    points: points.length,
    single: new Set(points.map((point) => point.spec)).size === 1,
    censored: points.filter((point) => point.censored !== 0).length,
    bits_low: least(rates),
    bits_high: -least(rates.map((rate) => -rate)),
    quality: qualityAtMedianBits(points),
    coverage: meanOfFinite(points.map((point) => point.coverage)),
    reproduced: total(points.map((point) => point.reproduced)),
  };
}

function least(values) {
  return values.reduce((a, b) => Math.min(a, b), Infinity);
}

function qualityAtMedianBits(points) {
  const specs = [...groupedBy(points, "spec_order").values()].map((own) => ({
    rate: meanOfFinite(own.map((point) => point.rate)), quality: meanOfFinite(own.map((point) => point.quality)),
  }));
  specs.sort((a, b) => a.rate - b.rate);
  return specs[Math.floor((specs.length - 1) / 2)].quality;
}

function orderOf(a, b, better) {
  if ((a.rank === null) !== (b.rank === null)) return a.rank === null ? 1 : -1;
  const key = (one) => [one.rank ?? 0, finite(one.gain) ? -one.gain : Infinity, finite(one.quality) ? -better * one.quality : Infinity];
  const [x, y] = [key(a), key(b)];
  const at = x.findIndex((value, number) => value !== y[number]);
  return at >= 0 ? (x[at] < y[at] ? -1 : 1) : a.method_order - b.method_order;
}
