// Drawings: a transposition, a histogram, where in a file a tensor lies.

/** Axes before and after, with a line from each to where it goes. */
function transposition(lengths, axes) {
  const wide = Math.max(...lengths.map((length) => String(length).length)) * 8 + 22, gap = 14, tall = 96;
  const width = lengths.length * (wide + gap) - gap + 4, middle = (at) => at * (wide + gap) + wide / 2 + 2;
  const made = svg("svg", { class: "transposition", viewBox: `0 0 ${width} ${tall}`, width, height: tall, role: "img" });
  made.append(svg("title", {}, `axes ${lengths.map((_, at) => at).join(", ")} become ${axes.join(", ")}`));
  const boxed = (at, top, axis) => {
    made.append(
      svg("rect", { x: middle(at) - wide / 2, y: top, width: wide, height: 26, rx: 4, class: `axis axis-${axis % 6}` }),
      svg("text", { x: middle(at), y: top + 17, "text-anchor": "middle" }, String(lengths[axis])),
    );
  };
  axes.forEach((axis, at) => {
    made.append(svg("path", {
      d: `M ${middle(axis)} 27 C ${middle(axis)} 50, ${middle(at)} 46, ${middle(at)} 69`, class: `thread axis-${axis % 6}`,
    }));
  });
  lengths.forEach((_, axis) => boxed(axis, 1, axis));
  axes.forEach((axis, at) => boxed(at, 69, axis));
  return made;
}

const LETTERS = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz-_";

/** Bars from the least value to the largest. */
function histogram(letters, least, largest) {
  const heights = [...letters].map((letter) => LETTERS.indexOf(letter)), wide = 10, tall = 64;
  const width = heights.length * wide;
  const made = svg("svg", {
    class: "histogram", viewBox: `0 0 ${width} ${tall + 16}`, role: "img", preserveAspectRatio: "none",
  });
  made.append(svg("title", {}, `values from ${least} to ${largest}`));
  heights.forEach((height, at) => {
    if (height) {
      made.append(svg("rect", { x: at * wide + 1, y: tall - height, width: wide - 2, height, class: "column" }));
    }
  });
  made.append(svg("line", { x1: 0, x2: width, y1: tall + 0.5, y2: tall + 0.5, class: "ground" }));
  const zero = -least / (largest - least); // where it is between them, if it is
  if (zero > 0 && zero < 1) {
    made.append(svg("line", { x1: zero * width, x2: zero * width, y1: tall, y2: tall + 6, class: "ground" }));
  }
  return el("figure", { class: "spread" }, made,
    el("figcaption", {}, el("span", {}, String(least)), zero > 0.12 && zero < 0.88 && el("span", { class: "zero", style: { left: `${100 * zero}%` } }, "0"),
      el("span", {}, String(largest))));
}

/** A file as a line, on which the tensor's bytes are marked. */
function extent(start, end, size) {
  const left = size ? Math.min(100 * start / size, 99.6) : 0;
  return el("div", { class: "extent", role: "img", "aria-label": `${percent(start, size)} into the file` },
    el("i", { style: { left: `${left}%`, width: `${Math.max(size ? 100 * (end - start) / size : 0, 0.4)}%` } }));
}
