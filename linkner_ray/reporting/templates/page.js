"use strict";

// A click on the head of a column sorts its table: numbers from the largest, then text. A row of
// sums stays last.
function sortable(table) {
  const heads = [...table.querySelectorAll("thead th")];
  const body = table.tBodies[0];
  if (!body || body.rows.length < 2) return;
  heads.forEach((head, column) => {
    if (!head.textContent.trim()) return;
    const sort = () => {
      const wasDescending = head.getAttribute("aria-sort") === "descending";
      const values = new Map([...body.rows].map(row => [row, cellValue(row.cells[column])]));
      const isText = [...values.values()].every(value => typeof value === "string");
      const isDescending = head.hasAttribute("aria-sort") ? !wasDescending : !isText;
      heads.forEach(other => other.removeAttribute("aria-sort"));
      head.setAttribute("aria-sort", isDescending ? "descending" : "ascending");
      const rows = [...body.rows].sort((a, b) => compare(values.get(a), values.get(b)));
      const sums = rows.filter(row => row.cells[0].textContent.trim() === "all");
      body.append(...(isDescending ? rows.reverse() : rows), ...sums);
    };
    head.classList.add("sorts");
    head.tabIndex = 0;
    head.addEventListener("click", sort);
    head.addEventListener("keydown", event => { if (event.key === "Enter") sort(); });
  });
}

function cellValue(cell) {
  const text = cell.textContent.trim();
  const number = parseFloat(text.replaceAll(",", ""));
  return Number.isNaN(number) ? text : number;
}

function compare(a, b) {
  if (typeof a === typeof b) return typeof a === "number" ? a - b : a.localeCompare(b);
  return typeof a === "number" ? 1 : -1;  // what is no number, such as a dash, is least
}

document.querySelectorAll("table").forEach(sortable);

// Cards: texts with marks, chosen by label, source, uncertainty, group and words.
function make(tag, properties = {}, ...children) {
  const element = Object.assign(document.createElement(tag), properties);
  element.append(...children);
  return element;
}

const count = number => number.toLocaleString("en");

function showCards({ labels, sources, groups, cards }) {
  const PER_PAGE = 25;
  const [tools, list, pager, hover] =
    ["tools", "list", "pager", "hover"].map(id => document.getElementById(id));
  const colours = new Map(labels);
  const marksOf = card => card.pieces.filter(piece => typeof piece !== "string");
  const totals = new Map();
  for (const [, label, source] of cards.flatMap(marksOf)) {
    for (const name of ["label " + label, "source " + source]) {
      totals.set(name, (totals.get(name) ?? 0) + 1);
    }
  }
  const choices = (kind, names, show) => {
    const boxes = new Map(names.map(
      name => [name, make("input", { type: "checkbox", checked: true })]));
    const soft = text => make("span", { className: "soft", textContent: text });
    tools.append(make("div", { role: "group", ariaLabel: kind }, soft(kind), ...names.map(name =>
      make("label", {}, boxes.get(name), show(name), soft(count(totals.get(`${kind} ${name}`) ?? 0))))));
    return name => boxes.get(name)?.checked ?? true;
  };
  const hasLabel = choices("label", labels.map(([name]) => name), name => chip(name, "", name));
  const hasSource = choices("source", sources, name => chip(name, name, ""));
  const least = make("input", { type: "range", min: 0, max: 1, step: 0.01, value: 0 });
  const said = make("output", { value: "0.00" });
  tools.append(make("label", {}, "uncertainty from", least, said));
  const group = make("select", {}, make("option", { value: "", textContent: "all kinds" }),
    ...groups.map(name => make("option", { value: name, textContent: name })));
  if (groups.length > 1) tools.append(group);
  const words = make("input", { type: "search", placeholder: "find in texts" });
  tools.append(words);
  let page = 0;

  function chip(text, source, label) {
    const mark = make("mark", { textContent: text, className: source });
    mark.style.setProperty("--colour", colours.get(label) ?? "currentColor");
    return mark;
  }
  const isChosen = ([, label, source, uncertainty]) =>
    hasLabel(label) && hasSource(source) && uncertainty >= Number(least.value);
  const textOf = card => card.pieces.map(p => typeof p === "string" ? p : p[0]).join("");

  function showCard(card) {
    const text = make("div", { className: "text", dir: "auto" });
    for (const piece of card.pieces) {
      if (typeof piece === "string" || !isChosen(piece)) {
        text.append(typeof piece === "string" ? piece : piece[0]);
        continue;
      }
      const mark = chip(piece[0], piece[2], piece[1]);
      mark.dataset.label = piece[1];
      mark.dataset.hover = piece[4];
      mark.tabIndex = 0;
      text.append(mark);
    }
    const facts = make("div", { className: "soft" });
    if (card.url) {
      facts.append(card.link
        ? make("a", { href: card.url, rel: "noopener noreferrer nofollow", textContent: card.url })
        : card.url, card.facts ? " \u00b7 " : "");
    }
    facts.append(card.facts);
    const foot = card.foot.map(line => make("div", { className: "soft", textContent: line }));
    return make("article", {}, make("h2", { textContent: card.title }), facts, text, ...foot);
  }

  function draw() {
    said.value = Number(least.value).toFixed(2);
    const boxes = [...tools.querySelectorAll("[type=checkbox]")];
    const chooses = Number(least.value) > 0 || boxes.some(box => !box.checked);
    const query = words.value.toLowerCase();
    const found = cards.filter(card =>
      (!chooses || marksOf(card).some(isChosen)) && (!group.value || card.group === group.value) &&
      (!query || `${card.title}\n${textOf(card)}`.toLowerCase().includes(query)));
    const pages = Math.max(1, Math.ceil(found.length / PER_PAGE));
    page = Math.min(page, pages - 1);
    const first = page * PER_PAGE;
    const shown = found.slice(first, first + PER_PAGE);
    list.replaceChildren(...shown.map(showCard));
    const turn = (name, to) => {
      const button = make("button", { type: "button", textContent: name });
      button.disabled = to < 0 || to >= pages;
      button.addEventListener("click", () => { page = to; draw(); tools.scrollIntoView(); });
      return button;
    };
    const place = shown.length ? `${count(first + 1)} to ${count(first + shown.length)} of ` : "";
    const whole = found.length < cards.length ? `, ${count(cards.length)} in all` : "";
    pager.replaceChildren(turn("Previous", page - 1), turn("Next", page + 1),
      make("span", { className: "soft", textContent: `${place}${count(found.length)}${whole}` }));
  }

  const tell = event => {
    const mark = event.target.closest?.("article mark");
    hover.hidden = !mark;
    hover.textContent = mark ? mark.dataset.hover : "";
  };
  ["mouseover", "focusin"].forEach(name => document.addEventListener(name, tell));
  tools.addEventListener("input", () => { page = 0; draw(); });
  tools.addEventListener("submit", event => event.preventDefault());
  draw();
}

const data = document.getElementById("cards");
if (data) showCards(JSON.parse(data.textContent));
