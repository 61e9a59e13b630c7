"use strict";
(function () {
  const read = (node) => JSON.parse(node.textContent);
  const number = (cell) => {
    const text = cell.dataset.v !== undefined ? cell.dataset.v : cell.textContent.replace(/[,+%]/g, "").replace("\u2212", "-");
    const value = parseFloat(text);
    return Number.isNaN(value) ? null : value;
  };

  // Tables: a click on a head sorts; missing numbers and totals stay last.
  const sortBy = (table, column, ascending) => {
    const body = table.tBodies[0];
    const heads = Array.from(table.tHead.rows[0].cells);
    const numeric = heads[column].classList.contains("n");
    const keyed = Array.from(body.rows, (row) => {
      const cell = row.cells[column];
      return { row: row, last: row.classList.contains("total"), key: numeric ? number(cell) : cell.textContent };
    });
    const collator = new Intl.Collator("en", { numeric: true });
    keyed.sort((a, b) => {
      if (a.last !== b.last) return a.last ? 1 : -1;
      if (a.key === null || b.key === null) return (a.key === null) - (b.key === null);
      const order = numeric ? a.key - b.key : collator.compare(a.key, b.key);
      return ascending ? order : -order;
    });
    keyed.forEach((entry) => body.append(entry.row));
    heads.forEach((head, index) => {
      if (index === column) head.setAttribute("aria-sort", ascending ? "ascending" : "descending");
      else head.removeAttribute("aria-sort");
    });
  };
  document.querySelectorAll("table").forEach((table) => {
    Array.from(table.tHead.rows[0].cells).forEach((head, column) => {
      const button = head.querySelector("button");
      if (button) button.addEventListener("click", () => sortBy(table, column, head.getAttribute("aria-sort") !== "ascending"));
    });
  });

  // Search box and tier filter.
  document.querySelectorAll(".tablebox").forEach((box) => {
    const input = box.querySelector("input");
    if (!input) return;
    const select = box.querySelector("select");
    const output = box.querySelector("output");
    const plain = (text) => text.normalize("NFKD").replace(/\p{M}/gu, "").toLowerCase();
    const rows = Array.from(box.querySelectorAll("tbody tr"), (row) => {
      const tier = row.querySelector(".tiername");
      return { row: row, text: plain(Array.from(row.cells).slice(0, 4).map((cell) => cell.textContent).join(" ")), tier: tier ? tier.textContent : "" };
    });
    const tiers = Array.from(new Set(Array.from(document.querySelectorAll(".tiername"), (cell) => cell.textContent)));
    const present = new Set(rows.map((entry) => entry.tier));
    tiers.filter((tier) => present.has(tier)).forEach((tier) => select.add(new Option(tier, tier)));
    select.hidden = select.options.length < 3;
    const filter = () => {
      const words = plain(input.value).split(/\s+/);
      let shown = 0;
      rows.forEach((entry) => {
        const hit = (!select.value || entry.tier === select.value) && words.every((word) => entry.text.includes(word));
        entry.row.hidden = !hit;
        shown += hit ? 1 : 0;
      });
      output.textContent = shown === rows.length ? "" : shown.toLocaleString("en") + " of " + rows.length.toLocaleString("en");
    };
    input.addEventListener("input", filter);
    select.addEventListener("change", filter);
    // Columns: a narrow screen has no room for values and changes of several models at once.
    const show = box.querySelector("select.show");
    if (!show) return;
    const scroll = box.querySelector(".scroll");
    const set = () => ["values", "changes"].forEach((name) => scroll.classList.toggle(name, show.value === name));
    show.hidden = false;
    if (window.innerWidth < 760) show.value = "changes";
    show.addEventListener("change", set);
    set();
  });

  // Choices: of several parts of the page one is shown.
  document.querySelectorAll(".choice").forEach((choice) => {
    const label = choice.querySelector(":scope > .choose");
    const select = label.querySelector("select");
    const options = Array.from(choice.querySelectorAll(":scope > .option"));
    const set = () => options.forEach((option, index) => option.classList.toggle("shown", index === select.selectedIndex));
    label.hidden = false;
    choice.classList.add("chosen");
    select.addEventListener("change", set);
    set();
  });

  // Charts: a line at the pointer and the values there. Charts over the same steps move together.
  const nearest = (places, at) => {
    let low = 0;
    let high = places.length - 1;
    while (high - low > 1) {
      const middle = (low + high) >> 1;
      if (places[middle] < at) low = middle;
      else high = middle;
    }
    return places.length && Math.abs(places[low] - at) <= Math.abs(places[high] - at) ? low : high;
  };
  const place = (plot, tip, percent) => {
    tip.style.display = "block";
    const width = plot.clientWidth;
    const left = (percent / 100) * width;
    const room = left + tip.offsetWidth + 14 < width ? left + 12 : left - tip.offsetWidth - 12;
    tip.style.left = Math.max(-40, room) + "px";
  };
  const follow = (plot, show, hide) => {
    plot.addEventListener("pointermove", (event) => {
      const area = plot.getBoundingClientRect();
      show(((event.clientX - area.left) / area.width) * 100, ((event.clientY - area.top) / area.height) * 100);
    });
    plot.addEventListener("pointerleave", hide);
  };
  const groups = {};
  document.querySelectorAll("script.line-data").forEach((node) => {
    const chart = { data: read(node), plot: node.parentNode.querySelector(".plot") };
    chart.cross = chart.plot.querySelector(".cross");
    chart.tip = chart.plot.querySelector(".tip");
    (groups[node.dataset.group] = groups[node.dataset.group] || []).push(chart);
  });
  Object.values(groups).forEach((charts) => {
    const hide = () => charts.forEach((chart) => { chart.cross.style.display = chart.tip.style.display = "none"; });
    charts.forEach((active) => follow(active.plot, (at) => {
      const index = nearest(active.data.at, at);
      charts.forEach((chart) => {
        chart.cross.style.display = "block";
        chart.cross.style.left = chart.data.at[index] + "%";
        const lines = chart.data.lines.filter((line) => line.y[index] !== null);
        // The chart under the pointer says everything, the others only their value.
        const shown = chart === active
          ? [chart.data.unit + " " + chart.data.steps[index].toLocaleString("en")].concat(lines.map((line) => line.name + "  " + line.y[index]))
          : chart.data.every ? lines.map((line) => line.name + "  " + line.y[index]) : lines.slice(-1).map((line) => line.y[index]);
        chart.tip.textContent = shown.join("\n");
        place(chart.plot, chart.tip, chart.data.at[index]);
      });
    }, hide));
  });
  document.querySelectorAll("script.dots-data").forEach((node) => {
    const data = read(node);
    const plot = node.parentNode.querySelector(".plot");
    const cross = plot.querySelector(".cross");
    const tip = plot.querySelector(".tip");
    const count = data.labels.length;
    const ratio = () => plot.clientHeight / plot.clientWidth;
    // Where dots have places of their own, the nearest on the screen counts.
    const closest = (at, height) => {
      let best = 0;
      let least = Infinity;
      data.x.forEach((x, index) => {
        const distance = Math.hypot(x - at, (data.at[index] - height) * ratio());
        if (distance < least) { least = distance; best = index; }
      });
      return best;
    };
    if (count) follow(plot, (at, height) => {
      const index = data.x ? closest(at, height) : Math.min(count - 1, Math.max(0, Math.floor((at / 100) * count)));
      const percent = data.x ? data.x[index] : ((index + 0.5) / count) * 100;
      cross.style.display = "block";
      cross.style.left = percent + "%";
      tip.textContent = data.labels[index] + "\n" + data.y[index];
      place(plot, tip, percent);
    }, () => { cross.style.display = tip.style.display = "none"; });
  });

  // A legend entry under the pointer dims the others.
  document.querySelectorAll(".legend li").forEach((item) => {
    const paths = item.closest(".chart").querySelectorAll(".plot .line, .dots, .faint, .tick");
    const set = (name) => paths.forEach((path) => path.classList.toggle("dim", name !== "" && !path.classList.contains(name)));
    item.addEventListener("pointerenter", () => set(item.className));
    item.addEventListener("pointerleave", () => set(""));
  });
})();
