// Puts the parts together: what is chosen in one is shown in the others.

async function start() {
  const model = new Model(await unpack());
  const filter = document.getElementById("filter"), found = document.getElementById("found");
  const tree = new TreeView(model, { open: (row) => choose(row.steps), move: () => {} });
  const map = new MapView(model, { open: (steps) => choose(steps) });
  const detail = new Detail(model, { go, close: rest });
  let isFolded = true, waiting = 0;

  function choose(steps, picks) {
    detail.show(tree.tree, steps, picks);
    document.body.classList.add("has-detail");
    if (matchMedia("(max-width: 900px)").matches) detail.box.scrollIntoView({ block: "start" });
  }

  /** Shows a tensor by its number, in the tree too. */
  function go(at) {
    let place = tree.reveal(at);
    if (!place) {
      filter.value = "";
      search();
      place = tree.reveal(at);
    }
    if (place) choose(place.row.steps, place.picks);
  }

  /** The overview. */
  function rest() {
    detail.box.replaceChildren(overview(model));
    detail.again = undefined;
    document.body.classList.remove("has-detail");
  }

  function search() {
    const chosen = model.filtered(filter.value), made = new Tree(model, chosen, isFolded);
    found.textContent = chosen === null ? "" : `${count(chosen.length)} of ${count(model.count)}`;
    tree.cursor = 0;
    tree.box.scrollTop = 0;
    tree.show(made, chosen !== null);
    map.show(made, chosen === null ? "all" : "found");
  }

  filter.addEventListener("input", () => {
    clearTimeout(waiting);
    waiting = setTimeout(search, model.count > 20000 ? 120 : 0);
  });
  filter.addEventListener("keydown", (event) => {
    if (event.key !== "ArrowDown" && event.key !== "Enter") return;
    event.preventDefault();
    clearTimeout(waiting);
    search();
    tree.box.focus();
    tree.go(0);
  });

  function theme() {
    const isDark = document.documentElement.dataset.theme
      ? document.documentElement.dataset.theme === "dark" : matchMedia("(prefers-color-scheme: dark)").matches;
    document.documentElement.dataset.theme = isDark ? "light" : "dark";
  }

  const acts = {
    "/": () => { filter.focus(); filter.select(); },
    m: () => map.focus(),
    o: rest,
    d: theme,
    f: () => { isFolded = !isFolded; search(); },
    "[": () => detail.again && detail.again(-1),
    "]": () => detail.again && detail.again(1),
    "?": () => document.getElementById("help").showModal(),
  };
  document.addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey || document.querySelector("dialog[open]")) return;
    if (event.key === "Escape") {
      if (filter.value) { filter.value = ""; search(); }
      rest();
      tree.box.focus();
      return;
    }
    if (event.target.matches("input, select") || !acts[event.key]) return;
    event.preventDefault();
    acts[event.key]();
  });
  document.getElementById("theme").addEventListener("click", theme);
  document.getElementById("keys").addEventListener("click", acts["?"]);

  header(model);
  rest();
  tree.tree = new Tree(model, null, isFolded);
  tree.openFirst();
  tree.show(tree.tree, false);
  map.show(tree.tree);
  tree.box.focus({ preventScroll: true });
  document.body.dataset.ready = "yes";
}

start().catch((error) => {
  document.body.dataset.ready = "no";
  document.getElementById("summary").textContent = `This page cannot be shown: ${error.message}`;
});
