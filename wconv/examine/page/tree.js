// The tree as it is seen: only the rows in view are in the page, so that its length does not matter.

const ROW = 26; // pixels, as in page.css
const SPARE = 12; // rows beyond what is in view
const OPENED = 60; // rows that a filter may open by itself
const TALLEST = 8_000_000; // pixels that a browser scrolls surely

class TreeView {
  /** `open(row)` is called with a tensor's row, `move(row)` with every row that the cursor goes to. */
  constructor(model, { open, move }) {
    this.model = model;
    this.open = open;
    this.move = move;
    this.box = document.getElementById("tree");
    this.rowsBox = document.getElementById("rows");
    this.opened = new Set();
    this.rows = [];
    this.cursor = 0;
    this.box.addEventListener("scroll", () => this.draw(), { passive: true });
    this.box.addEventListener("keydown", (event) => this.#key(event));
    this.box.addEventListener("click", (event) => this.#click(event));
    new ResizeObserver(() => this.draw()).observe(this.box);
  }

  /** Shows a tree; `all` opens what is small enough. */
  show(tree, all) {
    this.tree = tree;
    if (all) this.#openAll();
    this.list();
    this.cursor = Math.min(this.cursor, Math.max(this.rows.length - 1, 0));
    this.draw();
  }

  /** Opens the first levels, as long as they are a screenful. */
  openFirst() {
    let level = this.tree.view(this.tree.root).map((item) => ["", item]);
    while (level.length && level.length <= 24) {
      const next = [];
      for (const [above, item] of level) {
        if (item.part.leaf >= 0) continue;
        const key = keyOf(above, item), inner = this.tree.view(item.part);
        if (inner.length > 24) continue;
        this.opened.add(key);
        next.push(...inner.map((one) => [key, one]));
      }
      if (this.opened.size > 12) break;
      level = next;
    }
  }

  #openAll() {
    const left = [["", this.tree.root]];
    let rows = 0;
    for (let at = 0; at < left.length && rows < OPENED; at += 1) {
      const [above, part] = left[at];
      for (const item of this.tree.view(part)) {
        rows += 1;
        if (item.part.leaf >= 0) continue;
        const key = keyOf(above, item);
        this.opened.add(key);
        left.push([key, item.part]);
      }
    }
  }

  /** The rows that are there to be seen, one after the other. */
  list() {
    const rows = [], { tree, opened } = this;
    const add = (part, above, level, steps, times) => {
      const items = tree.view(part);
      items.forEach((item, place) => {
        const key = keyOf(above, item);
        const row = {
          item, key, level, place, of: items.length, steps: [...steps, ...item.steps], times: times * item.times,
          isOpen: item.part.leaf < 0 && opened.has(key),
        };
        rows.push(row);
        if (row.isOpen) add(item.part, key, level + 1, row.steps, row.times);
      });
    };
    add(tree.root, "", 1, [], 1);
    this.rows = rows;
    this.rowsBox.style.height = `${Math.min(rows.length * ROW, TALLEST)}px`;
  }

  /** The first row in view. A list that is taller than a browser can scroll moves by parts of it. */
  #first() {
    const height = this.rows.length * ROW;
    if (height <= TALLEST) return this.box.scrollTop / ROW;
    const share = this.box.scrollTop / Math.max(TALLEST - this.box.clientHeight, 1);
    return share * (this.rows.length - this.box.clientHeight / ROW);
  }

  draw() {
    const first = this.#first(), from = Math.max(Math.floor(first) - SPARE, 0);
    const to = Math.min(Math.ceil(first + this.box.clientHeight / ROW) + SPARE, this.rows.length);
    const made = [];
    for (let at = from; at < to; at += 1) made.push(this.#row(at, this.box.scrollTop + (at - first) * ROW));
    if (!this.rows.length) made.push(el("p", { class: "nothing" }, "No tensor is called so."));
    this.rowsBox.replaceChildren(...made);
    if (this.rows.length) this.box.setAttribute("aria-activedescendant", `row-${this.cursor}`);
    else this.box.removeAttribute("aria-activedescendant");
  }

  #row(at, top) {
    const { item, level, place, of, times, isOpen } = this.rows[at];
    const { part } = item, isLeaf = part.leaf >= 0, total = this.tree.root.bytes;
    const lost = part.lost > 0 && part.lost === part.bytes;
    const made = el("div", {
      class: `row${at === this.cursor ? " cursor" : ""}${lost ? " lost" : ""}${isLeaf ? " leaf" : ""}`,
      id: `row-${at}`, role: "treeitem", "data-at": at, "aria-level": level, "aria-posinset": place + 1,
      "aria-setsize": of, "aria-selected": at === this.cursor, "aria-expanded": isLeaf ? undefined : isOpen,
      style: { top: `${top}px`, paddingInlineStart: `${(Math.min(level, 12) - 1) * 15 + 6}px` },
    });
    made.append(
      el("span", { class: "twisty", "aria-hidden": true }, isLeaf ? "" : isOpen ? "▾" : "▸"),
      el("span", { class: "label", title: shown(item.label) },
        el("bdi", { class: "name" }, shown(item.label)),
        item.times > 1 && el("span", { class: "times" }, `×${count(item.times)}`)),
      isLeaf ? el("span", { class: "shape" }, shape(this.model.shape(part.leaf)))
        : el("span", { class: "shape quiet" }, plural(part.tensors * times, "tensor")),
      isLeaf ? this.#chip(part) : el("span", { class: "chip" }),
      el("span", { class: "size" },
        el("span", { class: "gauge", "aria-hidden": true, style: {
          width: `${Math.max(100 * part.bytes * times / (total || 1), 0.5)}%`, background: this.model.colours.get(part.main),
        } }),
        el("span", { class: "number" }, bytes(part.bytes * times))),
    );
    return made;
  }

  #chip(part) {
    return el("span", { class: "chip" },
      el("i", { class: "dot", style: { background: this.model.colours.get(part.main) } }), brief(part.main));
  }

  /** Moves the cursor, and the rows so that it is seen. */
  go(at) {
    if (!this.rows.length) return;
    this.cursor = Math.max(0, Math.min(at, this.rows.length - 1));
    const height = this.rows.length * ROW, view = this.box.clientHeight;
    const scale = height <= TALLEST ? 1 : (TALLEST - view) / (height - view);
    const top = this.cursor * ROW;
    if (top * scale < this.box.scrollTop) this.box.scrollTop = top * scale;
    else if (top + ROW > this.box.scrollTop / scale + view) this.box.scrollTop = (top + ROW - view) * scale;
    this.draw();
    this.move(this.rows[this.cursor]);
  }

  toggle(at, wanted) {
    const row = this.rows[at];
    if (!row || row.item.part.leaf >= 0 || row.isOpen === wanted) return;
    if (row.isOpen) this.opened.delete(row.key);
    else this.opened.add(row.key);
    this.list();
    this.go(at);
  }

  #act(at) {
    const row = this.rows[at];
    if (!row) return;
    if (row.item.part.leaf >= 0) this.open(row);
    else this.toggle(at);
  }

  #click(event) {
    const found = event.target.closest(".row");
    if (!found) return;
    this.go(Number(found.dataset.at));
    this.#act(this.cursor);
  }

  #key(event) {
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    const page = Math.max(Math.floor(this.box.clientHeight / ROW) - 1, 1), row = this.rows[this.cursor];
    const acts = {
      ArrowDown: () => this.go(this.cursor + 1),
      ArrowUp: () => this.go(this.cursor - 1),
      PageDown: () => this.go(this.cursor + page),
      PageUp: () => this.go(this.cursor - page),
      Home: () => this.go(0),
      End: () => this.go(this.rows.length - 1),
      ArrowRight: () => (row && row.isOpen ? this.go(this.cursor + 1) : this.toggle(this.cursor, true)),
      ArrowLeft: () => (row && row.isOpen ? this.toggle(this.cursor, false) : this.go(this.#parent())),
      Enter: () => this.#act(this.cursor),
      " ": () => this.#act(this.cursor),
    };
    if (!acts[event.key]) return;
    event.preventDefault();
    acts[event.key]();
  }

  #parent() {
    const { level } = this.rows[this.cursor] || { level: 1 };
    let at = this.cursor;
    while (at > 0 && this.rows[at].level >= level) at -= 1;
    return level > 1 ? at : this.cursor;
  }

  /** Opens all above a tensor and goes to it; the picks that tell it from those that share its row. */
  reveal(at) {
    const labels = this.model.names[at].split(".");
    let part = this.tree.root, above = "", depth = 0;
    const picks = [];
    for (;;) {
      const item = this.tree.view(part).find((one) => fits(one, labels, depth));
      if (!item) return null;
      for (const keys of item.steps) {
        if (keys.length > 1) picks.push(keys.findIndex((key) => bare(key) === labels[depth]));
        depth += 1;
      }
      const key = keyOf(above, item);
      if (item.part.leaf >= 0) {
        this.list();
        const place = this.rows.findIndex((row) => row.key === key);
        if (place >= 0) this.go(place);
        return place >= 0 ? { row: this.rows[place], picks } : null;
      }
      this.opened.add(key);
      part = item.part;
      above = key;
    }
  }
}

const bare = (key) => (key.endsWith("\0") ? key.slice(0, -1) : key);
const keyOf = (above, item) => `${above}/${item.label}${item.part.leaf >= 0 ? "\0" : ""}`;

/** Whether a name goes on as an item does. */
function fits(item, labels, depth) {
  const isEnd = depth + item.steps.length === labels.length;
  return (item.part.leaf >= 0) === isEnd
    && item.steps.every((keys, at) => keys.some((key) => bare(key) === labels[depth + at]));
}
