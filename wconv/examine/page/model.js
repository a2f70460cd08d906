// The model: the data that the page holds, unpacked, and what can be asked of it.

/** The data, which is deflated and written in base64. */
async function unpack() {
  const packed = document.getElementById("data").textContent;
  const raw = Uint8Array.from(atob(packed), (sign) => sign.charCodeAt(0));
  const stream = new Blob([raw]).stream().pipeThrough(new DecompressionStream("deflate"));
  return JSON.parse(await new Response(stream).text());
}

/** What the page asks of the data. Tensors are numbers: places in the columns. */
class Model {
  constructor(data) {
    Object.assign(this, data);
    this.count = data.names.length;
    this.dropped = new Map(data.output.dropped || []);
    this.statistics = new Map((data.stats ? data.stats.rows : []).map((row) => [row[0], row]));
    this.outputs = this.#outputs();
    this.dtypes = this.#dtypes();
    this.lower = data.names.map((name) => name.toLowerCase());
  }

  dtype(at) { return this.kinds[this.kind[at]][0]; }
  shape(at) { return this.kinds[this.kind[at]][1]; }
  size(at) { return this.kinds[this.kind[at]][2]; }

  /** Dtypes with their tensors and bytes, the largest first; each has a colour by its place here. */
  #dtypes() {
    const found = new Map();
    for (let at = 0; at < this.count; at += 1) {
      const dtype = this.dtype(at);
      const sums = found.get(dtype) || { dtype, tensors: 0, bytes: 0 };
      sums.tensors += 1;
      sums.bytes += this.size(at);
      found.set(dtype, sums);
    }
    const sorted = [...found.values()].sort((one, other) => other.bytes - one.bytes);
    this.colours = new Map(sorted.map((one, place) => [one.dtype, `var(--dtype-${Math.min(place, 7)})`]));
    return sorted;
  }

  /** Of each tensor, the places in the output that are made of it. */
  #outputs() {
    const found = new Array(this.count);
    (this.output.from || []).forEach((sources, place) => {
      for (const at of Array.isArray(sources) ? sources : [sources]) (found[at] ||= []).push(place);
    });
    return found;
  }

  sources(place) {
    const found = this.output.from[place];
    return Array.isArray(found) ? found : [found];
  }

  /** The tensors that a filter finds: all of its words must be in the name; null where there is no filter. */
  filtered(text) {
    const words = text.toLowerCase().split(/\s+/).filter(Boolean);
    if (!words.length) return null;
    const tests = words.map((word) => this.#test(word));
    const found = [];
    for (let at = 0; at < this.count; at += 1) if (tests.every((test) => test(at))) found.push(at);
    return found;
  }

  #test(word) {
    if (word.startsWith("-") && word.length > 1) {
      const test = this.#test(word.slice(1));
      return (at) => !test(at);
    }
    if (word.startsWith("dtype:")) {
      const wanted = word.slice(6);
      return (at) => this.dtype(at).startsWith(wanted) || brief(this.dtype(at)).startsWith(wanted);
    }
    if (word === "is:dropped") return (at) => this.dropped.has(at);
    if (word === "is:transposed") return (at) => this.#does(at, "transpose");
    const parts = word.split("*");
    if (parts.length === 1) return (at) => this.lower[at].includes(word) || this.#written(at, word);
    return (at) => inOrder(this.lower[at], parts);
  }

  #does(at, op) {
    return (this.outputs[at] || []).some((place) => {
      const way = this.output.way[place];
      return way >= 0 && this.output.steps[way].some((step) => step.op === op);
    });
  }

  /** Whether a word is in a name that is written of a tensor. */
  #written(at, word) {
    const places = this.outputs[at];
    return places !== undefined && places.some((place) => {
      const name = this.output.names[place];
      return name !== this.names[at] && name.toLowerCase().includes(word);
    });
  }
}

/** Whether parts follow each other in a text. */
function inOrder(text, parts) {
  let from = 0;
  for (const part of parts) {
    const at = text.indexOf(part, from);
    if (at < 0) return false;
    from = at + part.length;
  }
  return true;
}
