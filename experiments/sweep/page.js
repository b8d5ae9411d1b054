"use strict";
(function () {
  const data = JSON.parse(document.getElementById("data").textContent);
  const table = document.getElementById("table");
  const shown = new Set(data.runs.map((_, run) => run));
  const config = { responsive: true, displaylogo: false, modeBarButtonsToRemove: ["select2d", "lasso2d", "autoScale2d"] };

  // Figures: one view at a time, of the runs that are shown. A line through several runs is shown with any of them.
  const plots = new Map();
  const visible = (trace) => [].concat(trace.meta).some((run) => shown.has(run));

  const family = 'system-ui, "Segoe UI", "Helvetica Neue", sans-serif';
  const axis = {
    gridcolor: "#e8ecf0", zeroline: false, linecolor: "#9aa4b0", tickcolor: "#9aa4b0", ticks: "outside",
    automargin: true, exponentformat: "power",
  };
  const common = {
    font: { family, size: 12, color: "#1c2430" }, margin: { l: 60, r: 12, t: 8, b: 48 }, height: 380,
    showlegend: false, hovermode: "closest", plot_bgcolor: "#fff", paper_bgcolor: "#fff",
    hoverlabel: { bgcolor: "#fff", bordercolor: "#9aa4b0", font: { family, color: "#1c2430" } },
  };

  function view(name, label) {
    const { data: traces, layout } = data.figures[name][label];
    const [xaxis, yaxis] = [{ ...axis, ...layout.xaxis }, { ...axis, ...layout.yaxis }];
    return [traces.map((trace) => ({ ...trace, visible: visible(trace) })), { ...common, ...layout, xaxis, yaxis }];
  }

  document.querySelectorAll(".figure[data-figure]").forEach((section) => {
    const plot = section.querySelector(".plot");
    const select = section.querySelector("select");
    const name = section.dataset.figure;
    const draw = () => Plotly.react(plot, ...view(name, select.value), config);
    select.addEventListener("change", draw);
    plots.set(plot, draw());
  });

  // Switches: a run's checkbox shows or hides it in every figure and among the pictures.
  const switches = [...document.querySelectorAll("input[data-runs]")];
  const runsOf = (input) => input.dataset.runs.split(" ").filter(Boolean).map(Number);

  function apply() {
    for (const plot of plots.keys()) {
      const now = plot.data.map(visible);
      if (now.some((value, index) => value !== plot.data[index].visible)) Plotly.restyle(plot, { visible: now });
    }
    document.querySelectorAll("figure[data-run]").forEach((figure) => {
      figure.hidden = !shown.has(Number(figure.dataset.run));
    });
    for (const input of switches) {
      const count = runsOf(input).filter((run) => shown.has(run)).length;
      input.checked = count === runsOf(input).length;
      input.indeterminate = count > 0 && !input.checked;
      const row = input.closest("tbody tr");
      if (row) row.classList.toggle("off", count === 0);
    }
  }

  for (const input of switches) {
    input.addEventListener("change", () => {
      for (const run of runsOf(input)) input.checked ? shown.add(run) : shown.delete(run);
      apply();
    });
  }

  // A row under the pointer: its lines stand out.
  function light(runs) {
    for (const plot of plots.keys()) {
      plot.classList.toggle("dimmed", runs.length > 0);
      plot.querySelectorAll(".trace.lit").forEach((trace) => trace.classList.remove("lit"));
      for (const run of runs) {
        plot.querySelectorAll(`.trace[class*="run${run}-"]`).forEach((trace) => trace.classList.add("lit"));
      }
    }
  }

  table.querySelectorAll("tbody tr").forEach((row) => {
    const input = row.querySelector("input[data-runs]");
    row.addEventListener("mouseenter", () => light(runsOf(input).filter((run) => shown.has(run))));
    row.addEventListener("mouseleave", () => light([]));
  });

  // Seeds of a row.
  table.querySelectorAll(".expand").forEach((button) => {
    button.addEventListener("click", () => {
      const open = button.getAttribute("aria-expanded") !== "true";
      button.setAttribute("aria-expanded", open);
      button.closest("tbody").querySelectorAll("tr.seed").forEach((row) => { row.hidden = !open; });
    });
  });

  // Sorting, by a column's numbers or by one of the settings; what has no value stays last.
  const values = {
    column: (body, key) => body.querySelector(`tr.group [data-column="${key}"]`).dataset.value ?? "",
    field: (body, key) => JSON.parse(body.dataset.fields)[key] ?? "",
    plan: (body) => body.dataset.group,
  };

  function compare(a, b) {
    const [x, y] = [Number(a), Number(b)];
    return Number.isNaN(x) || Number.isNaN(y) ? a.localeCompare(b, "en", { numeric: true }) : x - y;
  }

  function sort(button) {
    const direction = button.dataset.sorted === "ascending" ? "descending" : "ascending";
    table.querySelectorAll("button[data-sorted]").forEach((other) => delete other.dataset.sorted);
    table.querySelectorAll("[aria-sort]").forEach((other) => other.removeAttribute("aria-sort"));
    button.dataset.sorted = direction;
    if (button.dataset.by === "column") button.closest("th").setAttribute("aria-sort", direction);
    const sign = direction === "ascending" ? 1 : -1;
    const read = (body) => String(values[button.dataset.by](body, button.dataset.key));
    const bodies = [...table.tBodies].map((body) => [read(body), body]);
    bodies.sort(([a, x], [b, y]) => {
      if (a === b) return x.dataset.group - y.dataset.group;
      if (a === "" || b === "") return a === "" ? 1 : -1;
      return sign * compare(a, b);
    });
    for (const [, body] of bodies) table.insertBefore(body, table.tFoot);
  }

  table.querySelectorAll("thead button[data-by]").forEach((button) => {
    button.addEventListener("click", () => sort(button));
  });

  // Families of columns.
  document.querySelectorAll("input[data-family]").forEach((input) => {
    const cells = table.querySelectorAll(`[data-of="${input.dataset.family}"]`);
    const update = () => cells.forEach((cell) => { cell.hidden = !input.checked; });
    input.addEventListener("change", update);
    update();
  });
})();
