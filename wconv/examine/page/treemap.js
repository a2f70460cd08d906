// The map: areas as large as the bytes of what they stand for. Made of few elements, whatever the model.

const SMALLEST = 28; // pixels of a side of an area that has others within
const HEADING = 17; // pixels of the line that names an area
const MOST_AREAS = 420;

/** Rectangles for some sizes, as square as can be (Bruls, Huizing, van Wijk: Squarified Treemaps). */
function squarified(sizes, x, y, width, height) {
  const total = sizes.reduce((sum, size) => sum + size, 0), scale = total ? (width * height) / total : 0;
  const made = [];
  let at = 0;
  while (at < sizes.length) {
    const side = Math.min(width, height);
    let end = at, sum = 0, best = Infinity;
    while (end < sizes.length) {
      const more = sum + sizes[end] * scale, depth = more / side || 1e-9;
      const longest = (sizes[at] * scale) / depth, shortest = (sizes[end] * scale) / depth;
      const worst = Math.max(longest / depth, depth / (shortest || 1e-9));
      if (worst > best) break;
      [best, sum, end] = [worst, more, end + 1];
    }
    const depth = side ? sum / side : 0;
    let along = 0;
    for (; at < end; at += 1) {
      const length = depth ? (sizes[at] * scale) / depth : 0;
      made.push(width >= height
        ? { x, y: y + along, width: depth, height: length }
        : { x: x + along, y, width: length, height: depth });
      along += length;
    }
    if (width >= height) { x += depth; width -= depth; } else { y += depth; height -= depth; }
  }
  return made;
}

class MapView {
  /** `open(steps)` is called with a tensor's steps. */
  constructor(model, { open }) {
    this.model = model;
    this.open = open;
    this.box = document.getElementById("map");
    this.crumbs = document.getElementById("crumbs");
    this.box.addEventListener("click", (event) => this.#act(event.target.closest(".area")));
    this.box.addEventListener("keydown", (event) => this.#key(event));
    new ResizeObserver(() => this.draw()).observe(this.box);
  }

  show(tree, label = "all") {
    this.tree = tree;
    this.way = [{ label, part: tree.root, steps: [], times: 1 }];
    this.draw();
  }

  get here() { return this.way[this.way.length - 1]; }

  draw() {
    if (!this.tree) return;
    this.areas = 0;
    const rect = { x: 0, y: 0, width: this.box.clientWidth, height: this.box.clientHeight };
    this.box.replaceChildren(...this.#within(this.here.part, rect, this.here.steps, this.here.times, 0));
    const first = this.box.querySelector(".area");
    if (first) first.tabIndex = 0;
    this.crumbs.replaceChildren(...this.way.flatMap((step, at) => [
      at ? el("span", { class: "quiet", "aria-hidden": true }, "›") : "",
      el("button", { type: "button", "aria-current": at === this.way.length - 1 ? "location" : undefined,
        on: { click: () => { this.way.length = at + 1; this.draw(); } } },
      el("bdi", {}, shown(step.label)), step.part.bytes && at ? ` ${bytes(step.part.bytes * step.times)}` : ""),
    ]));
  }

  #within(part, { x, y, width, height }, steps, times, depth) {
    const items = this.tree.view(part).filter((item) => item.part.bytes > 0)
      .sort((one, other) => other.part.bytes * other.times - one.part.bytes * one.times);
    const rects = squarified(items.map((item) => item.part.bytes * item.times), x, y, width, height);
    const made = [];
    items.forEach((item, at) => {
      const rect = rects[at];
      if (this.areas >= MOST_AREAS || rect.width < 3 || rect.height < 3) return;
      this.areas += 1;
      made.push(this.#area(item, rect, [...steps, ...item.steps], times * item.times, depth));
    });
    return made;
  }

  #area(item, rect, steps, times, depth) {
    const { part } = item, isLeaf = part.leaf >= 0;
    const deep = !isLeaf && depth < 4 && rect.width > SMALLEST * 2 && rect.height > SMALLEST + HEADING;
    const text = `${shown(item.label)}${item.times > 1 ? ` ×${count(item.times)}` : ""}`;
    const size = `${bytes(part.bytes * times)}, ${percent(part.bytes * times, this.tree.root.bytes)}`;
    const lost = part.lost > 0 && part.lost === part.bytes;
    const made = el("div", {
      class: `area${isLeaf ? " leaf" : ""}${deep ? " deep" : ""}${lost ? " lost" : ""}`, role: "button", tabindex: "-1",
      title: `${text}\n${size}`, "aria-label": `${text}, ${size}`,
      style: {
        left: `${rect.x}px`, top: `${rect.y}px`, width: `${Math.max(rect.width - 1.5, 1)}px`,
        height: `${Math.max(rect.height - 1.5, 1)}px`,
      },
    });
    made.style.setProperty("--colour", this.model.colours.get(part.main));
    made.place = { item, steps, times };
    if (rect.width > 34 && rect.height > 14) {
      made.append(el("span", { class: "caption" }, el("bdi", {}, text),
        rect.width > 130 && el("span", { class: "quiet" }, ` ${bytes(part.bytes * times)}`)));
    }
    if (deep) {
      const inner = { x: 3, y: HEADING, width: rect.width - 8, height: rect.height - HEADING - 5 };
      made.append(...this.#within(part, inner, steps, times, depth + 1));
    }
    return made;
  }

  /** Goes into an area, or shows its tensor. */
  #act(area) {
    if (!area) return;
    const { item, steps, times } = area.place;
    if (item.part.leaf >= 0) {
      this.open(steps);
      return;
    }
    const outer = [];
    for (let one = area; one && one !== this.box; one = one.parentElement) outer.unshift(one.place);
    this.way.push(...outer.map((place) => ({
      label: place.item.label + (place.item.times > 1 ? ` ×${count(place.item.times)}` : ""),
      part: place.item.part, steps: place.steps, times: place.times,
    })));
    this.draw();
    this.focus();
  }

  out() {
    if (this.way.length > 1) this.way.pop();
    this.draw();
    this.focus();
  }

  focus() {
    const first = this.box.querySelector(".area");
    if (first) first.focus();
  }

  #key(event) {
    const area = event.target.closest(".area");
    if (event.key === "Backspace") this.out();
    else if (event.key === "Enter" || event.key === " ") this.#act(area);
    else if (event.key.startsWith("Arrow") && area) this.#step(area, event.key);
    else return;
    event.preventDefault();
    event.stopPropagation();
  }

  /** Moves to the nearest area in a direction, of those that are not within the one we are in. */
  #step(area, key) {
    const [dx, dy] = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] }[key];
    const middle = (one) => { const r = one.getBoundingClientRect(); return [r.x + r.width / 2, r.y + r.height / 2]; };
    const [x, y] = middle(area);
    let best = null, least = Infinity;
    for (const other of this.box.querySelectorAll(".area.leaf, .area:not(.deep)")) {
      if (other === area) continue;
      const [ox, oy] = middle(other), along = (ox - x) * dx + (oy - y) * dy;
      const aside = Math.abs((ox - x) * dy) + Math.abs((oy - y) * dx);
      if (along > 1 && along + 2 * aside < least) [best, least] = [other, along + 2 * aside];
    }
    if (best) {
      area.tabIndex = -1;
      best.tabIndex = 0;
      best.focus();
    }
  }
}
