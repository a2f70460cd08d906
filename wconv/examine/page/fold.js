// Names as a tree, in which blocks that repeat are one: "layers.0–27 ×28", the odd ones apart.

const DEEPEST = 40; // parts of a name; what follows is one part

/** A part of names: what lies below it, or a tensor. */
class Part {
  constructor(label, parent) {
    this.label = label;
    this.parent = parent;
    this.inner = new Map();
    this.leaf = -1;
    this.bytes = 0;
    this.tensors = 0;
    this.sign = 0;
    this.main = null; // the dtype of most of its bytes
    this.dtypes = null; // bytes by dtype, where there are several
    this.lost = 0; // bytes that are not written
  }
}

/** A tree of some of the model's tensors. */
class Tree {
  constructor(model, chosen, fold) {
    this.model = model;
    this.fold = fold;
    this.root = new Part("", null);
    this.views = new Map();
    const all = chosen === null ? model.names.keys() : chosen;
    for (const at of all) this.#add(at);
    this.#sum();
  }

  #add(at) {
    const parts = this.model.names[at].split(".");
    if (parts.length > DEEPEST) parts.splice(DEEPEST - 1, Infinity, parts.slice(DEEPEST - 1).join("."));
    let part = this.root;
    parts.forEach((label, depth) => {
      // a tensor may be called as a part is that holds others
      const key = depth === parts.length - 1 ? `${label}\0` : label;
      let next = part.inner.get(key);
      if (!next) {
        next = new Part(label, part);
        part.inner.set(key, next);
      }
      part = next;
    });
    part.leaf = at;
  }

  /** Sizes of all parts, and signs: parts of one sign hold the same, down to dtypes and shapes. */
  #sum() {
    const { model } = this, signs = new Map(), order = [this.root];
    for (let at = 0; at < order.length; at += 1) for (const one of order[at].inner.values()) order.push(one);
    for (const part of order.reverse()) {
      let text;
      if (part.leaf >= 0) {
        part.bytes = model.size(part.leaf);
        part.tensors = 1;
        part.main = model.dtype(part.leaf);
        part.lost = model.dropped.has(part.leaf) ? part.bytes : 0;
        text = `${model.kind[part.leaf]} ${part.lost ? "x" : ""}`;
      } else {
        const texts = [];
        for (const [key, one] of part.inner) {
          part.bytes += one.bytes;
          part.tensors += one.tensors;
          part.lost += one.lost;
          texts.push(`${key}=${one.sign}`);
        }
        this.#mix(part);
        text = `{${texts.sort().join("\n")}}`;
      }
      if (!signs.has(text)) signs.set(text, signs.size);
      part.sign = signs.get(text);
    }
  }

  /** The dtype of most bytes of a part. */
  #mix(part) {
    const found = new Map();
    for (const one of part.inner.values()) {
      for (const [dtype, size] of one.dtypes || [[one.main, one.bytes]]) found.set(dtype, (found.get(dtype) || 0) + size);
    }
    let most = -1;
    for (const [dtype, size] of found) if (size > most) [most, part.main] = [size, dtype];
    if (found.size > 1) part.dtypes = found;
  }

  /** What is shown below a part: items, repeated ones joined. Made when it is first asked for. */
  view(part) {
    let found = this.views.get(part);
    if (!found) {
      found = this.#joined(part).map((item) => this.#shortened(item));
      this.views.set(part, found);
    }
    return found;
  }

  #joined(part) {
    const items = [], groups = new Map();
    for (const [key, one] of part.inner) {
      const isNumber = /^\d{1,9}$/.test(one.label);
      const group = isNumber && this.fold ? groups.get(`${one.leaf >= 0} ${one.sign}`) : undefined;
      if (group) {
        group.keys.push(key);
        continue;
      }
      const item = { part: one, keys: [key], steps: [], isNumber };
      if (isNumber) groups.set(`${one.leaf >= 0} ${one.sign}`, item);
      items.push(item);
    }
    for (const item of items) if (item.keys.length > 1) item.keys.sort((one, other) => parseInt(one) - parseInt(other));
    // numbers in their order, all else as the file has it
    const numbers = items.filter((item) => item.isNumber)
      .sort((one, other) => parseInt(one.keys[0]) - parseInt(other.keys[0]));
    return items.map((item) => (item.isNumber ? numbers.shift() : item)).map((item) => this.#item(item.keys, part));
  }

  #item(keys, parent) {
    const part = parent.inner.get(keys[0]);
    const label = keys.length === 1 ? part.label : spans(keys.map((key) => parseInt(key)));
    return { label, part, steps: [keys], times: keys.length };
  }

  /** An item that holds but one other is shown as one: "model.layers". */
  #shortened(item) {
    let made = item;
    for (let depth = 0; depth < DEEPEST && made.part.leaf < 0; depth += 1) {
      const inner = this.#joined(made.part);
      if (inner.length !== 1 || (made.times > 1 && inner[0].times > 1)) break;
      const [only] = inner;
      if (only.part.leaf >= 0 && made.times > 1) break;
      made = {
        label: `${made.label}.${only.label}`,
        part: only.part,
        steps: [...made.steps, ...only.steps],
        times: made.times * only.times,
      };
    }
    return made;
  }

  /** The tensor at the end of some steps; where a step stands for several parts, `picks` tells which. */
  tensor(steps, picks = []) {
    let part = this.root, at = 0;
    for (const keys of steps) {
      const key = keys.length === 1 ? keys[0] : keys[picks[at++] || 0];
      part = part && part.inner.get(key);
    }
    return part ? part.leaf : -1;
  }
}
