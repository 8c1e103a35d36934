"use strict";
(() => {
  const charts = JSON.parse(document.getElementById("charts").textContent);
  const dark = matchMedia("(prefers-color-scheme: dark)");
  const narrow = matchMedia("(max-width: 40rem)");
  const element = (number) => document.getElementById(`chart-${number}`);
  const colour = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();

  // Black stands for the colour of text, which is light on dark.
  const inked = (tree) =>
    JSON.parse(JSON.stringify(tree), (key, value) => (value === "#000000" ? colour("--ink") : value));

  const themed = (layout) => {
    const lines = { gridcolor: colour("--line"), zerolinecolor: colour("--line"), linecolor: colour("--soft"), automargin: true };
    const { square, ...own } = layout;
    const titled = (axis) => ({ ...lines, ...axis, title: { standoff: 8, ...axis.title } });
    return {
      ...own,
      xaxis: titled(own.xaxis),
      yaxis: titled(own.yaxis),
      font: { family: "system-ui, sans-serif", size: narrow.matches ? 12 : 13, color: colour("--ink") },
      paper_bgcolor: "rgba(0,0,0,0)",
      plot_bgcolor: "rgba(0,0,0,0)",
      margin: { l: 56, r: 16, t: 12, b: 48 },
      legend: { orientation: "h", x: 0, xanchor: "left", y: -0.2, yanchor: "top" },
      hoverlabel: { align: "left", bgcolor: colour("--tint"), bordercolor: colour("--soft"), font: { color: colour("--ink") } },
      // A finger that moves over a chart moves the page.
      dragmode: matchMedia("(pointer: coarse)").matches ? false : "zoom",
    };
  };

  const shownView = (number) => {
    const pressed = document.querySelector(`[data-chart="${number}"][aria-pressed="true"]`);
    return charts[number].views[pressed ? Number(pressed.dataset.view) : 0];
  };

  const put = (tree, path, value) => {
    const names = path.split(".");
    const last = names.pop();
    names.reduce((above, name) => (above[name] = { ...above[name] }), tree)[last] = value;
  };

  const draw = (number) => {
    const { traces, layout } = charts[number];
    const view = shownView(number);
    const whole = themed(layout);
    if (view) Object.entries(view.layout).forEach(([path, value]) => put(whole, path, value));
    const shown = inked(traces).map((trace, place) => ({ ...trace, visible: !view || view.shown[place] }));
    return Plotly.react(element(number), shown, whole, { responsive: true, displayModeBar: false });
  };

  const show = (button) => {
    const number = Number(button.dataset.chart);
    button.parentElement.querySelectorAll("button").forEach((each) => each.setAttribute("aria-pressed", String(each === button)));
    if (window.Plotly) draw(number);
  };

  const loaded = async () => {
    const letters = atob(document.getElementById("plotly").textContent);
    const packed = new Uint8Array(letters.length);
    for (let place = 0; place < letters.length; place += 1) packed[place] = letters.charCodeAt(place); // 2 million
    const plain = new Blob([packed]).stream().pipeThrough(new DecompressionStream("gzip"));
    const script = document.createElement("script");
    script.textContent = await new Response(plain).text();
    document.head.append(script);
  };

  const start = async () => {
    document.querySelectorAll("[data-chart]").forEach((button) => button.addEventListener("click", () => show(button)));
    if (!charts.length) return;
    await loaded();
    const waiting = new Set(charts.keys());
    const drawWaiting = (number) => waiting.delete(number) && draw(number);
    // Charts are drawn as they come near, so that the first can be used at once.
    const near = new IntersectionObserver(
      (seen) => seen.forEach((each) => each.isIntersecting && drawWaiting(Number(each.target.dataset.number))),
      { rootMargin: "50%" },
    );
    charts.forEach((_, number) => near.observe(element(number)));
    addEventListener("beforeprint", () => charts.forEach((_, number) => drawWaiting(number)));
    dark.addEventListener("change", () => charts.forEach((_, number) => waiting.has(number) || draw(number)));
  };
  start().then(() => (document.documentElement.dataset.ready = "true"));
})();
