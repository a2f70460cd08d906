// What all parts of the page share. Texts of the model are only ever set as text, never as markup.

/** A text of the model as it is shown: what cannot be seen, or turns the reading direction, stands as its number. */
const shown = (text) =>
  String(text).replace(/[\p{C}\p{Zl}\p{Zp}\p{Default_Ignorable_Code_Point}]/gu, (sign) =>
    sign === "\t" ? "\\t" : sign === "\n" ? "\\n" : `\\u{${sign.codePointAt(0).toString(16)}}`);

/** An element with attributes, texts and other elements in it. */
function el(tag, attributes = {}, ...inside) {
  const made = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (name === "class") made.className = value;
    else if (name === "style") Object.assign(made.style, value);
    else if (name === "on") for (const [event, act] of Object.entries(value)) made.addEventListener(event, act);
    else if (value !== undefined && value !== false) made.setAttribute(name, value === true ? "" : value);
  }
  made.append(...inside.filter((one) => one !== null && one !== undefined && one !== false));
  return made;
}

const SVG = "http://www.w3.org/2000/svg";

/** An element of a drawing. */
function svg(tag, attributes = {}, ...inside) {
  const made = document.createElementNS(SVG, tag);
  for (const [name, value] of Object.entries(attributes)) made.setAttribute(name, value);
  made.append(...inside);
  return made;
}

/** A name of the model, apart from the text around it, with a place to break after each dot. */
function named(text, attributes = {}) {
  const made = el("bdi", { class: "name", ...attributes });
  shown(text).split(/(?<=[./_])/).forEach((part, at) => made.append(...(at ? [el("wbr"), part] : [part])));
  return made;
}

const count = (number) => number.toLocaleString("en-US");
const plural = (number, noun) => `${count(number)} ${noun}${number === 1 ? "" : "s"}`;

/** Bytes, or other large numbers, in three digits. */
function large(number, units, step = 1000) {
  let at = 0;
  while (number >= step * 0.9995 && at < units.length - 1) { number /= step; at += 1; }
  const digits = at === 0 ? String(number) : number >= 99.95 ? number.toFixed(0) : number.toPrecision(3);
  return `${digits} ${units[at]}`.trim();
}
const bytes = (number) => large(number, ["B", "kB", "MB", "GB", "TB"]);
const parameters = (number) => large(number, ["", "K", "M", "B", "T"]);
const percent = (part, whole) => (whole ? `${(100 * part / whole).toFixed(part / whole < 0.1 ? 1 : 0)} %` : "0 %");
const shape = (lengths) => (lengths.length ? lengths.join(" × ") : "scalar");

/** Short names of dtypes. */
const brief = (dtype) => dtype
  .replace(/^bfloat16$/, "bf16").replace(/^float(\d+)/, "f$1").replace(/^int(\d+)$/, "i$1").replace(/^uint(\d+)$/, "u$1")
  .replace(/^complex/, "c");

/** Numbers as "0–3, 7". */
function spans(numbers) {
  const found = [];
  for (const number of numbers) {
    const last = found[found.length - 1];
    if (last && number === last[1] + 1) last[1] = number;
    else found.push([number, number]);
  }
  const texts = found.slice(0, 4).map(([first, last]) => (first === last ? `${first}` : `${first}–${last}`));
  return texts.join(", ") + (found.length > 4 ? ", …" : "");
}
