// The twin of hashing.py, where it is explained: random bits from a counter, the same in both languages.

const DATASET = 1, UNIT = 2, NORMAL_U = 3, NORMAL_V = 4, FLIP = 5;

function hash(purpose, draw, slot) {
  return mixed(((purpose << 28) | ((draw % 65536) << 12) | (slot % 4096)) >>> 0);
}

function mixed(counter) {
  let h = Math.imul(counter, 0x9E3779B1);
  h = Math.imul(h ^ (h >>> 16), 0x85EBCA6B);
  h = Math.imul(h ^ (h >>> 13), 0xC2B2AE35);
  return (h ^ (h >>> 16)) >>> 0;
}

function index(purpose, draw, slot, below) {
  return Math.floor(hash(purpose, draw, slot) * below / 2 ** 32);
}

function uniform(purpose, draw, slot) {
  return (hash(purpose, draw, slot) + 0.5) / 2 ** 32;
}

function normal(draw, slot) {
  const u = uniform(NORMAL_U, draw, slot), v = uniform(NORMAL_V, draw, slot);
  return Math.sqrt(-2 * Math.log(u)) * Math.cos(2 * Math.PI * v);
}

function sign(draw, slot) {
  return hash(FLIP, draw, slot) >= 2 ** 31 ? -1 : 1;
}
