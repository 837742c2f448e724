// Chart.js, where it is there: spend beside its baseline over time, and the mix of models. Else nothing is drawn.
const HUES = [28, 212, 145, 268, 350, 188, 52, 312];

function colour(name) {
  return getComputedStyle(document.documentElement).getPropertyValue(name).trim();
}

export class Charts {
  #holders;
  #drawn = {};

  constructor(holders) {
    this.#holders = holders;
  }

  // Each returns whether it was drawn.
  time(labels, costs, baselines) {
    return this.#draw("time", {
      type: "bar",
      data: {
        labels,
        datasets: [
          { type: "line", label: "baseline", data: baselines, borderColor: "--base", backgroundColor: "--base", pointRadius: 0, borderWidth: 2 },
          { label: "spent", data: costs, backgroundColor: "--cost" },
        ],
      },
      options: { scales: { y: { beginAtZero: true, ticks: { maxTicksLimit: 5, callback: (value) => `$${value}` } }, x: { ticks: { maxTicksLimit: 8, maxRotation: 0 } } } },
    });
  }

  mix(names, counts) {
    const dark = matchMedia("(prefers-color-scheme: dark)").matches;
    const colours = names.map((_, index) => `hsl(${HUES[index % HUES.length]} 45% ${dark ? 62 : 45}%)`);
    return this.#draw("mix", {
      type: "doughnut",
      data: { labels: names, datasets: [{ data: counts, backgroundColor: colours, borderColor: "--card" }] },
      options: { plugins: { legend: { position: "right" } } },
    });
  }

  repaint() {
    for (const [name, { config }] of Object.entries(this.#drawn)) this.#draw(name, config, true);
  }

  #draw(name, config, anew = false) {
    if (!globalThis.Chart) return false;
    this.#holders[name].hidden = false;
    const before = this.#drawn[name];
    if (before && !anew) {
      before.chart.data.labels = config.data.labels;
      config.data.datasets.forEach((set, index) => {
        before.chart.data.datasets[index].data = set.data;
        if (Array.isArray(set.backgroundColor)) before.chart.data.datasets[index].backgroundColor = set.backgroundColor;
      });
      before.chart.update("none");
      before.config = config;
      return true;
    }
    before?.chart.destroy();
    const ink = colour("--soft");
    globalThis.Chart.defaults.color = ink;
    globalThis.Chart.defaults.borderColor = colour("--line");
    const datasets = config.data.datasets.map((set) => {
      const painted = { ...set };
      for (const key of ["borderColor", "backgroundColor"]) {
        if (typeof painted[key] === "string" && painted[key].startsWith("--")) painted[key] = colour(painted[key]);
      }
      return painted;
    });
    const options = { responsive: true, maintainAspectRatio: false, animation: false, ...config.options };
    const canvas = this.#holders[name].querySelector("canvas");
    this.#drawn[name] = { config, chart: new globalThis.Chart(canvas, { type: config.type, data: { labels: config.data.labels, datasets }, options }) };
    return true;
  }
}
