"use strict";
(function () {
  const root = document.documentElement;
  const prefersDark = window.matchMedia("(prefers-color-scheme: dark)");
  let awaited = "";

  function remembered(name) {
    try { return window.localStorage.getItem("skewscope-" + name) || ""; } catch (error) { return ""; }
  }

  function remember(name, value) {
    try { window.localStorage.setItem("skewscope-" + name, value); } catch (error) { /* private window */ }
  }

  function shade() { return remembered("theme") || (prefersDark.matches ? "dark" : "light"); }

  function dress() {
    root.dataset.theme = shade();
    root.dataset.density = remembered("density") || "roomy";
  }

  function without(address) {
    const place = new URL(address, window.location.href);
    place.searchParams.delete("zoom");
    place.searchParams.sort();
    return place.href;
  }

  function go(href) {
    if (window.location.search.includes("zoom=") && without(href) === without(window.location.href)) {
      window.location.assign(href);  // only the zoom goes: everything is drawn anew
      return;
    }
    window.history.pushState({}, "", href);
    window.dispatchEvent(new CustomEvent("_dashprivate_pushstate"));
    window.scrollTo(0, 0);
    document.getElementById("content").focus({ preventScroll: true });
  }

  function help(open) {
    const dialog = document.getElementById("help");
    const keys = document.getElementById("help-keys");
    keys.replaceChildren();
    for (const link of document.querySelectorAll("#nav a[data-key]")) {
      const line = document.createElement("li");
      const key = document.createElement("kbd");
      key.textContent = "g " + link.dataset.key;
      line.append(key, " " + link.textContent);
      keys.append(line);
    }
    if (open && !dialog.open) { dialog.showModal(); } else { dialog.close(); }
  }

  function flash(button, said) {
    const before = button.textContent;
    button.textContent = said;
    window.setTimeout(function () { button.textContent = before; }, 1500);
  }

  function copied(button) {
    const done = function () { flash(button, "Copied"); };
    const shown = function () { window.prompt("Link to what is shown", window.location.href); };
    if (navigator.clipboard) { navigator.clipboard.writeText(window.location.href).then(done, shown); } else { shown(); }
  }

  function pictured(button, format) {
    const plot = button.closest("section").querySelector(".js-plotly-plot");
    if (plot && window.Plotly) {
      const name = button.closest("section").id.replace("block-", "skewscope-");
      window.Plotly.downloadImage(plot, { format: format, filename: name, scale: format === "png" ? 2 : 1 });
    }
  }

  const zooms = new WeakMap();  // plot -> what its reader zoomed, by axis

  function follow(event) {
    const plot = event.target.closest && event.target.closest(".js-plotly-plot");
    if (!plot || !plot.on || zooms.has(plot)) { return; }
    zooms.set(plot, {});
    plot.on("plotly_relayout", function (change) {
      const axes = zooms.get(plot);
      for (const axis of ["xaxis", "yaxis"]) {
        if (change[axis + ".autorange"]) { delete axes[axis]; }
        if (change[axis + ".range"]) { axes[axis] = change[axis + ".range"]; }
        if (axis + ".range[0]" in change) { axes[axis] = [change[axis + ".range[0]"], change[axis + ".range[1]"]]; }
      }
      if (plot.data[0] && plot.data[0].meta === "map") { addressed(plot); }
    });
    const said = plot.querySelector(".hoverlayer");
    if (said) {  // written anew at each move of the pointer, mostly without an event
      new MutationObserver(function () { belowOne(plot); }).observe(said, { childList: true, subtree: true });
    }
  }

  function addressed(plot) {  // what of a map is in view stands in the address, so that a link shows it
    const place = new URL(window.location.href);
    const name = plot.closest("section").id.replace("block-", "");
    const kept = (place.searchParams.get("zoom") || "").split(";").filter(function (one) {
      return one && !one.startsWith(name + ":");
    });
    const shown = plot._fullLayout, whole = (plot.layout.meta || {}).whole || [];
    const ends = [...shown.xaxis.range, ...shown.yaxis.range].map(function (one) { return Number(one.toFixed(2)); });
    const free = shown.xaxis.autorange && shown.yaxis.autorange;
    if (!free && ends.some(function (end, at) { return Math.abs(end - whole[at]) > 0.01; })) {
      kept.push(name + ":" + ends.join(","));
    }
    if (kept.length) { place.searchParams.set("zoom", kept.join(";")); } else { place.searchParams.delete("zoom"); }
    window.history.replaceState(window.history.state, "", place);
    window.dispatchEvent(new CustomEvent("_dashprivate_pushstate"));
  }

  function belowOne(plot) {  // a cell of level 0 is not nothing, but less than one level
    const said = plot.layout.meta;
    if (!said || !said.zero) { return; }
    for (const line of plot.querySelectorAll(".hoverlayer tspan")) {
      if (line.textContent === said.zero) { line.textContent = said.below; }
    }
  }
  for (const begin of ["mouseover", "mousedown", "touchstart", "focusin"]) { document.addEventListener(begin, follow, true); }

  function zoomed() {
    const told = {};
    for (const plot of document.querySelectorAll("#page .js-plotly-plot")) {
      const axes = zooms.get(plot);
      if (axes && Object.keys(axes).length) { told[plot.closest("section").id.replace("block-", "")] = axes; }
    }
    return told;
  }

  const does = {
    "does-density": function () {
      remember("density", root.dataset.density === "dense" ? "roomy" : "dense");
      dress();
    },
    "does-link": copied,
    "does-help": function () { help(true); },
    "does-close": function () { help(false); },
    "does-png": function (button) { pictured(button, "png"); },
    "does-svg": function (button) { pictured(button, "svg"); },
  };

  document.addEventListener("click", function (event) {
    const button = event.target.closest("button");
    if (button && does[button.className]) { does[button.className](button); return; }
    const link = event.target.closest("a.in");
    if (!link || event.button || event.ctrlKey || event.metaKey || event.shiftKey || event.altKey) { return; }
    event.preventDefault();
    const menu = link.closest("details");
    if (menu) { menu.open = false; }
    go(link.getAttribute("href"));
  });

  document.addEventListener("keydown", function (event) {
    if (event.ctrlKey || event.metaKey || event.altKey || event.target.closest("input, select, textarea")) { return; }
    if (event.key === "?") { help(true); return; }
    if (awaited === "g") {
      awaited = "";
      for (const link of document.querySelectorAll("#nav a[data-key]")) {
        if (link.dataset.key === event.key) { event.preventDefault(); go(link.getAttribute("href")); }
      }
      return;
    }
    awaited = event.key === "g" ? "g" : "";
  });

  window.dash_clientside = Object.assign({}, window.dash_clientside, {
    skewscope: {
      theme: function (clicks) {
        if (clicks) { remember("theme", shade() === "dark" ? "light" : "dark"); }
        dress();
        return shade();
      },
      seen: function () { return zoomed(); },
      shown: function () {
        const title = document.querySelector("#page h1");
        const here = document.querySelector("#nav a[aria-current]");
        if (here) { here.parentElement.scrollLeft = here.offsetLeft - (window.innerWidth - here.offsetWidth) / 2; }
        if (title) { document.title = title.textContent + " - skewscope"; }
        return "";
      },
    },
  });
  dress();
})();
