"use strict";
(function () {
  const charts = JSON.parse(document.getElementById("charts").textContent);
  const dark = window.matchMedia("(prefers-color-scheme: dark)");
  const buttons = [["toImage", "zoom2d", "pan2d", "zoomIn2d", "zoomOut2d", "resetScale2d"]];
  const config = { responsive: true, displaylogo: false, modeBarButtons: buttons };
  const lighter = { "#0072B2": "#4aa3df", "#009E73": "#35c79b", "#D55E00": "#f0803c" };  // on dark ground

  function colours(isDark) {
    return isDark
      ? { ink: "#e8eaed", line: "#343a43", ground: "#14171b", middle: "#20252c", soft: "#7d8591" }
      : { ink: "#16191d", line: "#d9dce1", ground: "#ffffff", middle: "#f3f3f3", soft: "#9aa1ab" };
  }

  function lit(chart) {
    let text = JSON.stringify(chart);
    for (const colour of Object.keys(lighter)) { text = text.replaceAll(colour, lighter[colour]); }
    return JSON.parse(text);
  }

  function themed(plain, isDark) {
    const tint = colours(isDark);
    const chart = isDark ? lit(plain) : plain;
    const layout = Object.assign({}, chart.layout, {
      paper_bgcolor: "rgba(0,0,0,0)", plot_bgcolor: "rgba(0,0,0,0)",
      font: { color: tint.ink, size: 12, family: "system-ui, sans-serif" },
      modebar: { bgcolor: "rgba(0,0,0,0)", color: tint.soft, activecolor: tint.ink },
      hoverlabel: { bgcolor: tint.ground, bordercolor: tint.line, font: { color: tint.ink } },
    });
    for (const axis of ["xaxis", "yaxis"]) {
      layout[axis] = Object.assign({}, chart.layout[axis], {
        gridcolor: tint.line, zerolinecolor: tint.line, linecolor: tint.line, tickcolor: tint.line,
      });
    }
    const data = chart.data.map(function (trace) {
      if (trace.meta !== "diverging") { return trace; }
      const ends = isDark ? ["#4ba3e3", "#f08a3c"] : ["#0b5fa5", "#c2500a"];
      return Object.assign({}, trace, { colorscale: [[0, ends[0]], [0.5, tint.middle], [1, ends[1]]] });
    });
    return { data: data, layout: layout };
  }

  function draw(isDark) {
    for (const name of Object.keys(charts)) {
      const place = document.getElementById("plot-" + name);
      const made = themed(charts[name], isDark);
      Plotly.react(place, made.data, made.layout, config);
    }
  }

  draw(dark.matches);
  dark.addEventListener("change", function (change) { draw(change.matches); });
  window.addEventListener("beforeprint", function () { draw(false); });
  window.addEventListener("afterprint", function () { draw(dark.matches); });
})();
