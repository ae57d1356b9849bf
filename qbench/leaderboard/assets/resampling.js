// The twin of resampling.py: a hierarchical bootstrap over units, sign-flip tests, Holm's correction.

const DRAWS = 10000, FLIPS = 4096, EXACT = 12, PERCENTILES = [2.5, 97.5], ROUNDING = 1e-9;
const finite = Number.isFinite;

// How often each unit is drawn, and the sum of the normal numbers that came with it: arrays [draws * units].
function resamples(datasets, draws = DRAWS) {
  const named = [...new Set(datasets)].sort((a, b) => a - b);
  const members = named.map((name) => datasets.flatMap((own, place) => (own === name ? [place] : [])));
  const most = Math.max(0, ...members.map((one) => one.length));
  const counts = new Float64Array(draws * datasets.length), noise = new Float64Array(draws * datasets.length);
  for (let draw = 0; draw < draws; draw++) {
    for (let j = 0; j < named.length; j++) {
      const units = members[index(DATASET, draw, j, named.length)];
      for (let k = 0; k < units.length; k++) {
        const slot = j * most + k;
        const place = draw * datasets.length + units[index(UNIT, draw, slot, units.length)];
        counts[place] += 1;
        noise[place] += normal(draw, slot);
      }
    }
  }
  return {counts, noise};
}

// gains, errors: [methods][units], NaN where a method has no gain in a unit.
function intervals(gains, errors, datasets, draws = DRAWS) {
  const units = datasets.length;
  const {counts, noise} = resamples(datasets, draws);
  return gains.map((gain, method) => {
    if (gain.filter(finite).length < 2) return [NaN, NaN];
    const means = new Float64Array(draws);
    let drawn = 0;
    for (let draw = 0; draw < draws; draw++) {
      let total = 0, sum = 0;
      for (let unit = 0; unit < units; unit++) {
        if (!finite(gain[unit])) continue;
        const place = draw * units + unit;
        total += counts[place];
        sum += counts[place] * gain[unit] + noise[place] * (errors[method][unit] || 0);
      }
      if (total > 0) means[drawn++] = sum / total;
    }
    const ordered = means.subarray(0, drawn).sort();
    return PERCENTILES.map((share) => percentile(ordered, share));
  });
}

function percentile(ordered, share) {
  const at = (share / 100) * (ordered.length - 1), low = Math.floor(at);
  const high = Math.min(low + 1, ordered.length - 1);
  return ordered[low] + (ordered[high] - ordered[low]) * (at - low);
}

// Two-sided p of paired differences having mean zero, of each row of [methods][units].
function signFlip(differences) {
  const units = differences.length ? differences[0].length : 0;
  const exact = units <= EXACT, count = exact ? 2 ** units : FLIPS;
  const flips = Array.from({length: count}, (_, flip) => Array.from({length: units}, (_, unit) => (
    exact ? ((flip >> unit) & 1 ? -1 : 1) : sign(flip, unit))));
  return differences.map((row) => {
    const own = Math.abs(total(row)) - ROUNDING * total(row.map(Math.abs));
    let extreme = 0;
    for (const flip of flips) {
      let sum = 0;
      for (let unit = 0; unit < units; unit++) sum += flip[unit] * row[unit];
      if (Math.abs(sum) >= own) extreme += 1;
    }
    return exact ? extreme / count : (1 + extreme) / (1 + count);
  });
}

function total(values) {
  return values.reduce((sum, value) => sum + value, 0);
}

function holm(p) {
  const order = p.map((_, place) => place).sort((a, b) => p[a] - p[b] || a - b);
  const adjusted = new Array(p.length);
  let most = 0;
  order.forEach((place, number) => {
    most = Math.max(most, p[place] * (p.length - number));
    adjusted[place] = Math.min(most, 1);
  });
  return adjusted;
}
