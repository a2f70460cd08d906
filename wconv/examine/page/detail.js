// One tensor: where it lies, what becomes of it on the way, and what is written.

class Detail {
  /** `go(at)` shows another tensor by its number, `close()` the overview. */
  constructor(model, { go, close }) {
    this.model = model;
    this.go = go;
    this.close = close;
    this.box = document.getElementById("detail");
  }

  /** Shows a tensor. `row` may stand for several: `picks` tells which, and can be changed. */
  show(tree, steps, picks = []) {
    const choices = steps.filter((keys) => keys.length > 1);
    const chosen = choices.map((_, at) => picks[at] || 0), at = tree.tensor(steps, chosen);
    if (at < 0) return;
    this.again = (step) => {
      // the last number that can still be moved, as a clock's hands
      const moved = [...chosen];
      for (let place = moved.length - 1; place >= 0; place -= 1) {
        moved[place] += step;
        if (moved[place] >= 0 && moved[place] < choices[place].length) return this.show(tree, steps, moved);
        moved[place] = step > 0 ? 0 : choices[place].length - 1;
      }
      return undefined;
    };
    const pickers = choices.map((keys, place) => this.#picker(keys, chosen[place], (pick) =>
      this.show(tree, steps, chosen.map((old, other) => (other === place ? pick : old)))));
    this.box.replaceChildren(
      el("div", { class: "chosen" },
        el("h2", {}, named(this.model.names[at])),
        el("button", { type: "button", class: "quiet", title: "Overview (Esc)", on: { click: this.close } }, "Overview")),
      choices.length ? el("div", { class: "pickers" }, ...pickers) : "",
      this.#way(at),
      ...this.#spread(at),
      ...this.#tied(at),
    );
    this.box.scrollTop = 0;
    this.at = at;
  }

  #picker(keys, pick, change) {
    const number = (key) => bare(key);
    const box = el("select", { "aria-label": "Which of them", on: { change: () => change(box.selectedIndex) } },
      ...keys.slice(0, 5000).map((key) => el("option", {}, number(key))));
    box.selectedIndex = pick;
    const step = (by, sign, what) => el("button", {
      type: "button", "aria-label": what, disabled: pick + by < 0 || pick + by >= keys.length, on: { click: () => change(pick + by) },
    }, sign);
    return el("span", { class: "picker" }, step(-1, "‹", "Previous"), box, step(1, "›", "Next"),
      el("span", { class: "quiet" }, `of ${count(keys.length)}`));
  }

  /** From the file to what is written. */
  #way(at) {
    const { model } = this, places = model.outputs[at] || [], { output } = model;
    const made = el("ol", { class: "way" }, this.#from(at));
    if (model.dropped.has(at)) {
      made.append(el("li", { class: "end lost" }, el("h3", {}, "not written"),
        el("p", {}, shown(model.texts[model.dropped.get(at)]))));
      this.#rule(made, at);
      return made;
    }
    if (output.refusal) {
      made.append(el("li", { class: "end lost" }, el("h3", {}, "no conversion"), el("p", {}, shown(output.refusal))));
      return made;
    }
    this.#rule(made, at);
    for (const place of places.slice(0, 8)) this.#to(made, at, place, places.length > 1);
    if (places.length > 8) made.append(el("li", {}, `and ${plural(places.length - 8, "more tensor")}`));
    if (!places.length) made.append(el("li", { class: "end lost" }, el("h3", {}, "not written")));
    return made;
  }

  #from(at) {
    const { model } = this, start = model.start[at], end = model.end[at], file = model.files[model.file[at]];
    return el("li", { class: "from" }, el("h3", {}, "from"),
      named(model.names[at]),
      this.#kind(model.dtype(at), model.shape(at), model.size(at)),
      file && el("p", { class: "quiet" }, named(file[0]),
        end >= 0 ? ` · bytes ${count(start)} – ${count(end)}` : ` · from byte ${count(start)}, not as it is in memory`),
      file && end >= 0 && extent(start, end, file[1]));
  }

  #kind(dtype, lengths, size) {
    return el("p", { class: "kind" },
      el("i", { class: "dot", style: { background: this.model.colours.get(dtype) || "var(--dim)" } }),
      dtype, el("b", {}, shape(lengths)), el("span", { class: "quiet" }, bytes(size)));
  }

  #rule(way, at) {
    const number = this.model.rules.length ? this.model.rules[at] : -1;
    if (number < 0) return;
    for (const line of this.model.texts[number].split("\n")) {
      way.append(el("li", { class: "rule" }, el("h3", {}, "rule"), el("code", {}, shown(line))));
    }
  }

  #to(way, at, place, several) {
    const { output, names } = this.model, steps = output.way[place] >= 0 ? output.steps[output.way[place]] : [];
    const sources = this.model.sources(place);
    for (const step of steps) way.append(this.#step(step));
    const same = output.names[place] === names[at];
    const [dtype, lengths, size] = this.model.kinds[output.kind[place]];
    way.append(el("li", { class: "end" }, el("h3", {}, several ? "to, among others" : "to"),
      named(output.names[place]), same && el("span", { class: "quiet" }, " the same name"),
      this.#kind(dtype, lengths, size),
      el("p", { class: "quiet" }, named(output.files[output.file[place]])),
      sources.length > 1 && el("details", {}, el("summary", {}, `made of ${plural(sources.length, "tensor")}`),
        el("ul", {}, ...sources.slice(0, 64).map((one) => el("li", {}, this.#link(one))),
          sources.length > 64 && el("li", {}, `and ${count(sources.length - 64)} more`)))));
  }

  #link(at) {
    return el("button", { type: "button", class: "link", on: { click: () => this.go(at) } }, named(this.model.names[at]));
  }

  #step(step) {
    const made = (title, ...inside) => el("li", { class: "step" }, el("h3", {}, title), ...inside);
    switch (step.op) {
      case "transpose": return made("transposed", transposition(step.from, step.axes));
      case "cast": return made("cast", el("p", {}, `${step.from} → ${step.to}`));
      case "reshape": return made("reshaped", el("p", {}, `${shape(step.from)} → ${shape(step.to)}`));
      case "slice": return made("cut", el("p", {}, `axis ${step.axis}: ${step.start} to ${step.stop} of ${step.of}`,
        step.step === 1 ? "" : `, every ${step.step}`));
      case "join": return made("joined", el("p", {}, `${step.count} along axis ${step.axis} → ${shape(step.to)}`));
      case "add": return made("added", el("p", {}, `${step.value > 0 ? "+" : ""}${step.value}`));
      case "view": return made("read as", el("p", {}, step.to));
      case "quantize": return made("quantized", el("p", {}, shown(step.how)));
      default: return made("computed", el("p", {}, shown(step.what)), step.to && el("p", { class: "quiet" },
        `${step.dtype} ${shape(step.to)}`));
    }
  }

  #spread(at) {
    const row = this.model.statistics.get(at);
    if (!row) return [];
    const titles = {
      least: "least", largest: "largest", mean: "mean", deviation: "deviation", zeros: "zeros", nan: "NaN",
      infinite: "infinite", beyond_float16: "beyond float16",
    };
    const bad = ["nan", "infinite", "beyond_float16"];
    const cells = this.model.stats.columns.map((column, place) => [column, row[place + 1]])
      .filter(([column, value]) => value !== null && (value || !["zeros", ...bad].includes(column)));
    const letters = row[row.length - 1];
    return [el("section", { class: "values" }, el("h3", {}, "values"),
      letters && histogram(letters, row[1], row[2]),
      el("dl", { class: "cells" }, ...cells.flatMap(([column, value]) => [
        el("dt", {}, titles[column]),
        el("dd", { class: bad.includes(column) ? "bad" : "" }, Number.isInteger(value) ? count(value) : String(value)),
      ])))];
  }

  #tied(at) {
    const tie = this.model.ties.find((one) => one.includes(at));
    if (!tie) return [];
    return [el("section", {}, el("h3", {}, "shares its bytes with"),
      el("ul", {}, ...tie.filter((one) => one !== at).slice(0, 20).map((one) => el("li", {}, this.#link(one)))))];
  }
}
