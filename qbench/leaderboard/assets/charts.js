// Charts are drawn when they come near the window; the first three at once.

const AT_ONCE = 3;
const MOST_MARKS = 1500;

function chartsOf(page, look) {
  const drawn = new Map();
  const waiting = new IntersectionObserver((entries) => {
    for (const entry of entries.filter((one) => one.isIntersecting)) {
      waiting.unobserve(entry.target);
      draw(entry.target.dataset.chart);
    }
  }, {rootMargin: "600px 0px"});

  function specOf(chart) {
    return (chart.boards && chart.boards[look().state.board]) || chart.spec;
  }

  async function draw(id) {
    const chart = page.charts.find((one) => one.id === id);
    const place = document.querySelector(`#chart-${CSS.escape(id)} .plot`);
    const spec = specOf(chart);
    const before = drawn.get(id) || {};
    if (before.result) before.result.finalize();
    const inner = node("div");
    const now = {spec, inner, width: place.clientWidth};
    drawn.set(id, now);
    const marks = chart.linked && spec ? look().marks() : null;
    say(chart, spec, marks);
    place.style.minHeight = `${place.offsetHeight}px`;
    place.replaceChildren(spec ? inner : chart.empty);
    place.classList.toggle("empty", !spec);
    if (!spec) return undefined;
    const own = structuredClone(spec);
    if (marks) own.datasets = {...own.datasets, points: marks};
    within(place, inner, own.usermeta || {});
    const result = await vegaEmbed(inner, laidOut(own, inner.clientWidth), {
      ast: true, mode: "vega-lite", renderer: "svg", actions: false, defaultStyle: false, logLevel: 1, tooltip,
      config: page.config[look().dark ? "dark" : "light"], patch: fitted(own.usermeta || {}),
    });
    if (drawn.get(id) !== now) return result.finalize();
    now.result = result;
    if (now.stale) update(now);
    place.dataset.drawn = "yes";
    place.style.minHeight = "";
    return undefined;
  }

  function update(now, marks = look().marks()) {
    if (now.result) now.result.view.data("points", marks).runAsync();
    else now.stale = true;
  }

  // The words of a chart that follows the selection do so too.
  function say(chart, spec, marks) {
    const {words, way} = (spec && spec.usermeta) || {};
    const said = marks ? chartWords(way, marks, look().board(), look().state) : words;
    if (!said) return marks;
    const figure = document.getElementById(`chart-${chart.id}`);
    figure.querySelector(".plot").setAttribute("aria-label", said);
    figure.querySelector("details.alt p").textContent = said;
    return marks;
  }

  function laidOutAnew() {
    for (const [id, now] of drawn) {
      const {clientWidth} = now.inner.parentElement || {};
      const {panels, cells} = (now.spec && now.spec.usermeta) || {};
      if (clientWidth && clientWidth !== now.width && (panels || cells)) draw(id);
    }
  }

  return {
    // The one that opens the page needs no points, and does not wait for them.
    async first() {
      if (page.charts.length && !page.charts[0].linked) await draw(page.charts[0].id);
    },
    // Ends when one of those that are drawn at once is there.
    start() {
      const figures = [...document.querySelectorAll("figure[data-chart]")];
      const ids = figures.slice(0, AT_ONCE).map((figure) => figure.dataset.chart).filter((id) => !drawn.has(id));
      const drawing = ids.map(draw).filter((_, place) => drawn.get(ids[place]).spec);
      figures.slice(AT_ONCE).forEach((figure) => waiting.observe(figure));
      let pause = 0;
      addEventListener("resize", () => {
        clearTimeout(pause);
        pause = setTimeout(laidOutAnew, 200);
      });
      return Promise.race([...drawing, ...(drawing.length ? [] : [null])]);
    },
    again() {
      for (const id of drawn.keys()) draw(id);
    },
    select() {
      for (const chart of page.charts.filter((one) => drawn.has(one.id))) {
        const now = drawn.get(chart.id);
        if (specOf(chart) !== now.spec) draw(chart.id);
        else if (chart.linked && now.spec) update(now, say(chart, now.spec, look().marks()));
      }
    },
  };
}

// No wider than a chart reads well, and no narrower: then it is moved sideways within its place.
function within(place, inner, {narrowest, widest}) {
  inner.style.maxWidth = widest ? `${widest}px` : "";
  inner.style.minWidth = narrowest ? `${narrowest}px` : "";
  const wider = narrowest > place.clientWidth;
  place.classList.toggle("wider", wider);
  if (wider) place.tabIndex = 0;
}

// In a place of that width, as charts/theme.py and cells.py say: Vega-Lite lays out neither panels nor labels by room.
function laidOut(spec, width) {
  const {panels, cells} = spec.usermeta || {};
  if (panels) return withPanels(spec, panels, width);
  return cells ? withCells(spec, cells, width) : spec;
}

function withPanels(spec, rule, width) {
  const room = width - rule.beside + rule.gap;
  const columns = Math.max(1, Math.min(rule.most, Math.floor(room / (rule.narrowest + rule.gap))));
  return {...spec, columns, spec: {...spec.spec, width: Math.floor(room / columns - rule.gap)}};
}

function withCells(spec, rule, width) {
  const room = Math.max(rule.least, Math.min(rule.most, width - rule.beside - rule.columns * rule.column));
  return {...spec, params: spec.params.map((one) => ({...one, value: room})), width};
}

// Vega fits a width to its place beside rows of a given height; Vega-Lite would say that it fits no heights.
function fitted({cells}) {
  return cells ? (vega) => ({...vega, autosize: {type: "fit-x", contains: "padding"}}) : undefined;
}

// The rows of a linked chart: the points of the selection, averaged over units where they are too many to see.
function marksOf(points, shown, query) {
  const labels = new Set(found(shown, query).map((row) => row.method));
  const places = new Map(shown.map((row, order) => [row.method, {order, ranked: row.rank === null ? 0 : 1}]));
  const marks = points.filter((point) => isNumber(point.quality)).map((point) => ({...markOf(point, labels), ...places.get(point.method)}));
  return marks.length <= MOST_MARKS ? marks : averaged(marks).slice(0, MOST_MARKS);
}

function markOf(point, labels) {
  return {
    method: point.method, label: point.label, family: point.family, rate_class: point.rate_class,
    bits: point.rate, quality: point.quality, gain: point.gain, unit: point.unit, model: point.model,
    dataset: point.dataset, seeds: point.seeds, selected: labels.has(point.method) ? 1 : 0, spec: point.spec,
    drop: point.accuracy_drop ?? null,
  };
}

function averaged(marks) {
  const groups = new Map();
  for (const mark of marks) {
    if (!groups.has(mark.spec)) groups.set(mark.spec, []);
    groups.get(mark.spec).push(mark);
  }
  return [...groups.values()].map((many) => ({
    ...many[0], unit: `mean of ${many.length} units`, model: "", dataset: "",
    ...Object.fromEntries(["bits", "quality", "gain", "drop"].map((name) => [name, meanOf(many, name)])),
  }));
}

function meanOf(many, name) {
  const values = many.map((mark) => mark[name]).filter(isNumber);
  return values.length ? values.reduce((sum, value) => sum + value, 0) / values.length : null;
}

// Drawn here rather than by the library, which would make markup of the texts.
function tooltip(handler, event, item, value) {
  let box = document.getElementById("vg-tooltip-element");
  if (!box) {
    box = node("div", {id: "vg-tooltip-element", role: "tooltip"});
    document.body.append(box);
  }
  box.classList.toggle("visible", value !== null && value !== undefined && value !== "");
  if (!box.classList.contains("visible")) return;
  const pairs = typeof value === "object" ? Object.entries(value) : [["", value]];
  const title = pairs.find(([name]) => name === "title");
  const rows = pairs.filter(([name]) => name !== "title").map(([name, text]) => node("tr", {},
    node("td", {class: "key"}, shortened(name, 60)), node("td", {class: "value"}, shortened(String(text), 200))));
  box.replaceChildren(...(title ? [node("h2", {}, shortened(String(title[1]), 200))] : []), node("table", {}, node("tbody", {}, ...rows)));
  const {clientX, clientY} = event;
  const wide = box.offsetWidth, high = box.offsetHeight;
  box.style.left = `${Math.max(8, Math.min(clientX + 12, innerWidth - wide - 8))}px`;
  box.style.top = `${clientY + 12 + high > innerHeight ? Math.max(8, clientY - high - 12) : clientY + 12}px`;
}
