// The whole: the header with its bars, and what is shown while no tensor is.

const HOW = {
  read: "read from the file", inferred: "inferred: nothing in the file says so in as many words", unknown: "not known",
};

/** A mark that tells how a statement is known. */
const mark = (how, where) =>
  el("span", { class: `mark ${how}`, title: where ? `${how} from ${where}` : HOW[how] || "" }, how);

function header(model) {
  document.getElementById("title").append(el("bdi", {}, shown(model.title)));
  document.getElementById("summary").append(
    el("b", {}, plural(model.count, "tensor")), el("b", {}, `${parameters(model.elements)} elements`),
    el("b", {}, bytes(model.bytes)), `${shown(model.format)}, ${plural(model.files.length, "file")}`);
  const bar = el("div", { class: "stack", role: "img", "aria-label": "Bytes by dtype" });
  const legend = el("ul", { class: "legend" });
  for (const { dtype, tensors, bytes: size } of model.dtypes) {
    const colour = model.colours.get(dtype);
    bar.append(el("i", { style: { flexGrow: Math.max(size / (model.bytes || 1), 0.002), background: colour }, title: `${dtype} ${bytes(size)}` }));
    legend.append(el("li", {}, el("i", { class: "dot", style: { background: colour } }), el("b", {}, dtype),
      ` ${percent(size, model.bytes)}`, el("span", { class: "quiet" }, ` ${bytes(size)}, ${plural(tensors, "tensor")}`)));
  }
  document.getElementById("dtypes").append(bar, legend);
}

const card = (title, ...inside) => el("section", { class: "card" }, el("h2", {}, title), ...inside);

/** Statements, each with how it is known. */
function statements(model) {
  if (!model.facts.length) return "";
  return card("What it is", el("dl", { class: "facts" }, ...model.facts.flatMap((fact) => [
    el("dt", {}, fact.what), el("dd", {}, el("span", {}, shown(fact.text)), mark(fact.how, fact.where)),
  ])));
}

function loaders(model) {
  if (!model.loaders.length) return "";
  const signs = { "as it is": "✓", converted: "→", no: "✕", unknown: "?" };
  return card("What loads it", el("ul", { class: "loaders" }, ...model.loaders.map((one) => el("li", { class: one.state.replaceAll(" ", "-") },
    el("span", { class: "sign", "aria-hidden": true }, signs[one.state] || "?"),
    el("span", {}, el("b", {}, `${one.program} ${one.version}`), ` ${shown(one.text)}`), mark(one.how)))));
}

function conversion(model) {
  const { output } = model;
  if (output.refusal) return card("Converted", el("p", { class: "bad" }, shown(output.refusal)));
  const rows = [
    ["for", output.layout || "names and layouts unchanged"],
    ["size", `${bytes(model.bytes)} → ${bytes(output.bytes)}, ${plural(output.names.length, "tensor")}`],
    ...output.dtypes.map(([change, tensors]) => ["dtype", `${change}: ${plural(tensors, "tensor")}`]),
    model.dropped.size ? ["not written", plural(model.dropped.size, "tensor")] : null,
    output.command ? ["load it", output.command] : null,
    output.known ? ["load it", output.known] : null,
    ...output.notes.map((note) => ["note", note]),
  ].filter(Boolean);
  return card("What wconv would write", el("dl", { class: "facts" },
    ...rows.flatMap(([title, text]) => [el("dt", {}, title), el("dd", {}, shown(text))])));
}

/** How large the model would be in few bits. */
function recipes(model) {
  if (!model.recipes.length) return "";
  const rows = [["as it is", model.bytes], ...model.recipes], most = Math.max(...rows.map(([, size]) => size));
  return card("Size by quantization", el("div", { class: "recipes" }, ...rows.flatMap(([name, size]) => [
    el("span", {}, shown(name)),
    el("span", { class: "track", "aria-hidden": true }, el("i", { style: { width: `${100 * size / most}%` } })),
    el("span", { class: "number" }, bytes(size)),
  ])));
}

function pickles(model) {
  const found = model.pickles;
  if (!found || !(found.pickles || found.findings.length || found.names.length)) return "";
  const verdict = found.runs ? el("p", { class: "bad" }, "Code of the file's choice would run where other programs load it.")
    : el("p", {}, "Nothing of the file's own choice would run.");
  return card("What its pickles name", verdict,
    el("table", { class: "names" }, el("tbody", {},
      ...found.names.map(([level, name]) => el("tr", { class: level },
        el("td", {}, el("span", { class: `level ${level}` }, level)), el("td", {}, named(name)))))),
    found.findings.length ? el("details", { open: found.runs }, el("summary", {}, plural(found.findings.length + found.more, "finding")),
      el("ul", { class: "findings" }, ...found.findings.map(([level, file, at, text]) => el("li", {},
        el("span", { class: `level ${level}` }, level), el("code", {}, shown(text)),
        el("span", { class: "quiet" }, named(file), at ? ` byte ${count(at)}` : ""))))) : "");
}

function lists(model) {
  const cards = [];
  if (model.skipped.length) {
    cards.push(card("Cannot be read", el("ul", { class: "plain" },
      ...model.skipped.map(([name, why]) => el("li", {}, named(name), el("span", { class: "quiet" }, ` ${shown(why)}`))))));
  }
  if (model.metadata.length) {
    cards.push(card("What else the files say", el("dl", { class: "facts wide" },
      ...model.metadata.flatMap(([key, value]) => [el("dt", {}, named(key)), el("dd", {}, shown(value))]))));
  }
  return cards;
}

function overview(model) {
  return el("div", { class: "cards" },
    loaders(model), statements(model), recipes(model), conversion(model), pickles(model), ...lists(model),
    el("p", { class: "quiet foot" }, `Made by wconv ${model.wconv} of `, named(model.path), ". ",
      "This page is complete: it loads nothing and sends nothing."));
}
