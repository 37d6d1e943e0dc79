"use strict";
// Draws the charts of a report by uPlot, from the JSON in the page; on a live page, again whenever there is news.
(() => {
  const plots = new Map();
  const sync = uPlot.sync("timesteps");
  const color = (i) => getComputedStyle(document.documentElement).getPropertyValue(`--c${i % 7}`).trim();
  const ink = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();
  const dashes = (i) => [[], [8, 4], [2, 4]][Math.floor(i / 7) % 3];

  const short = (v) => {
    if (v == null) return "";
    const size = Math.abs(v);
    for (const [least, unit] of [[1e9, "G"], [1e6, "M"], [1e3, "k"]]) {
      if (size >= least) return `${+(v / least).toPrecision(4)}${unit}`;
    }
    return `${+v.toPrecision(4)}`;
  };
  const shown = (v) => (v == null ? "–" : Math.abs(v) >= 1e4 ? Math.round(v).toLocaleString("en") : `${+v.toPrecision(5)}`);

  const axis = (label) => ({
    label,
    labelSize: 20,
    stroke: ink("--quiet"),
    grid: { stroke: ink("--grid"), width: 1 },
    ticks: { stroke: ink("--edge"), width: 1, size: 5 },
    values: (_, splits) => splits.map(short),
    font: "12px system-ui, sans-serif",
    labelFont: "12px system-ui, sans-serif",
  });

  function options(chart, width) {
    const isBars = chart.kind === "bars";
    const bands = [];
    const series = chart.series.map((one, i) => {
      const stroke = color(one.color);
      const made = { label: one.label, stroke, width: 2, dash: dashes(one.color), spanGaps: true, value: (_, v) => shown(v) };
      if (isBars) {
        const bars = uPlot.paths.bars({ size: [0.9, Infinity], align: 0 });
        return { ...made, paths: bars, fill: stroke + "66", width: 1, points: { show: false } };
      }
      if (chart.series[i + 1]?.role === "high") {
        made.value = (u, v, _, at) => (v == null || at == null ? shown(v) : `${shown(v)} (${shown(u.data[i + 3][at])} to ${shown(u.data[i + 2][at])})`);
      }
      if (one.role === "low" || one.role === "high") {
        made.width = 0;
        made.class = "of-band"; // its values stand beside the line's
        if (one.role === "low") bands.push({ series: [i, i + 1], fill: stroke + "33" });
      }
      if (one.role === "dots") {
        made.paths = () => null;
        made.points = { show: true, size: 4, fill: stroke + "55", width: 0 };
        made.spanGaps = false;
      } else {
        made.points = { show: one.marked && one.role === "line", size: 5 };
      }
      return made;
    });
    return {
      width,
      height: Math.max(220, Math.min(340, Math.round(width * 0.45))),
      scales: { x: { time: false } },
      cursor: isBars ? { drag: { x: false, y: false } } : { sync: { key: sync.key, setSeries: false }, focus: { prox: 24 } },
      focus: { alpha: 0.35 },
      legend: { live: true },
      axes: [axis(chart.x), { ...axis(chart.y), size: 58 }],
      series: [{ label: chart.x, value: (_, v) => shown(v) }, ...series],
      bands,
    };
  }

  const shape = (chart) => JSON.stringify([chart.kind, chart.x, chart.y, chart.series]);
  const widthOf = (element) => Math.max(240, Math.floor(element.getBoundingClientRect().width));

  function draw(charts, isNew) {
    const there = new Set(charts.map((chart) => chart.id));
    for (const [id, old] of plots) {
      if (isNew || !there.has(id)) {
        old.plot.destroy();
        plots.delete(id);
      }
    }
    for (const chart of charts) {
      const element = document.getElementById(chart.id);
      if (!element) continue;
      const old = plots.get(chart.id);
      if (old && old.shape === shape(chart)) {
        if (old.plot.root.parentNode !== element) element.replaceChildren(old.plot.root);
        old.plot.setData(chart.data, !old.isZoomed);
        continue;
      }
      if (old) old.plot.destroy();
      const mine = { shape: shape(chart), isZoomed: false };
      mine.plot = new uPlot(options(chart, widthOf(element)), chart.data, element);
      mine.plot.over.addEventListener("dblclick", () => (mine.isZoomed = false));
      mine.plot.hooks.setSelect = [(u) => (mine.isZoomed = mine.isZoomed || u.select.width > 0)];
      plots.set(chart.id, mine);
    }
  }

  let charts = JSON.parse(document.getElementById("charts").textContent);
  draw(charts, true);

  let waiting = 0;
  addEventListener("resize", () => {
    clearTimeout(waiting);
    waiting = setTimeout(() => {
      for (const [id, { plot }] of plots) {
        const width = widthOf(document.getElementById(id));
        if (width !== plot.width) plot.setSize({ width, height: Math.max(220, Math.min(340, Math.round(width * 0.45))) });
      }
    }, 100);
  });
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => draw(charts, true));
  for (const event of ["beforeprint", "afterprint"]) addEventListener(event, () => draw(charts, true));

  if (!document.body.dataset.live) return;
  let version = "";
  const say = (text) => {
    const badge = document.getElementById("state");
    if (badge && badge.textContent !== text) badge.textContent = text;
  };
  async function look() {
    try {
      const answer = await fetch(`state?after=${encodeURIComponent(version)}`, { cache: "no-store" });
      if (!answer.ok) throw new Error(answer.statusText);
      const news = await answer.json();
      say("live");
      if (news.version === version) return;
      version = news.version;
      charts = news.charts;
      replaceText(news.body);
      draw(charts, false);
    } catch {
      say("the server has ended");
    }
  }
  // The new text takes the place of the old; charts move into it as they are, open details stay open.
  function replaceText(html) {
    const made = document.createElement("template");
    made.innerHTML = html;
    const open = [...document.querySelectorAll("details")].map((one) => one.open);
    [...made.content.querySelectorAll("details")].forEach((one, i) => i < open.length && (one.open = open[i]));
    for (const [id, { plot }] of plots) made.content.getElementById(id)?.append(plot.root);
    for (const clip of document.querySelectorAll("figure video, figure img")) {
      const same = [...made.content.querySelectorAll("video, img")].find((one) => one.getAttribute("src") === clip.getAttribute("src"));
      if (same) same.replaceWith(clip);
    }
    document.getElementById("body").replaceChildren(made.content);
  }
  const loop = () => look().finally(() => setTimeout(loop, document.hidden ? 10000 : 2000));
  loop();
})();
