"use strict";
// The table of items: filters, order, one slice of rows at a time. All text goes into the page as text, never as HTML.

const campaign = JSON.parse(document.getElementById("campaign").textContent);
const byId = (id) => document.getElementById(id);
const ABSENT = "—";
const worstFirst = Object.fromEntries(campaign.standings.map((name, place) => [name, place]));
const collator = new Intl.Collator(undefined, { numeric: true });
const isNumber = (value) => typeof value === "number" && Number.isFinite(value);
const inWords = (standing) => campaign.words[standing] ?? standing;

/** An element with attributes and children; children that are no elements become text. */
function make(tag, attributes = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (value !== undefined && value !== null && value !== false) element.setAttribute(name, value === true ? "" : value);
  }
  element.append(...children.map((child) => (child instanceof Node ? child : String(child))));
  return element;
}

/** A number with so many significant digits at most, as text. */
function short(value, digits = 4) {
  if (value === "Infinity") return "∞";
  if (value === "-Infinity") return "−∞";
  if (!isNumber(value)) return ABSENT;
  const size = Math.abs(value);
  if (size !== 0 && (size >= 1e6 || size < 1e-4)) {
    const [front, power] = value.toExponential(digits - 1).split("e");
    return `${Number(front)}e${power}`;
  }
  return String(Number(value.toPrecision(digits)));
}

const countOf = (number) => `${number} item${number === 1 ? "" : "s"}`;

/** A label as text; of a number only as many digits as tell measurements apart. */
function labelText(value) {
  if (isNumber(value)) return String(Number(value.toPrecision(8)));
  return value === null || value === undefined ? ABSENT : String(value);
}

/** A number with exactly so many significant digits, so that those below each other can be compared. */
function aligned(value, digits) {
  const size = Math.abs(value);
  return isNumber(value) && size >= 1e-3 && size < 10 ** (digits - 1) ? value.toPrecision(digits) : short(value, digits);
}

const standingOf = (item) => make("span", { class: `standing ${item.standing}` }, inWords(item.standing));
const differs = (key) => new Set(campaign.items.map((item) => item[key]).filter((value) => value || value === 0)).size > 1;

// ---- columns: a title, what to sort by, and what a cell shows -------------------------------------------------------

function parameterColumn({ name, unit }) {
  return {
    key: `p:${name}`,
    title: name,
    unit,
    number: true,
    value: (item) => item.parameters[name]?.value,
    cell: (item) => {
      const found = item.parameters[name];
      if (!found) return ABSENT;
      if (found.held) return make("span", { class: "held" }, `${found.shown} held`);
      return found.bound ? `${found.shown} (${found.bound} bound)` : found.shown;
    },
  };
}

function columnsOfItems() {
  const items = campaign.items;
  const columns = [
    { key: "index", title: "#", number: true, value: (item) => item.index },
    { key: "name", title: "item", kind: "name", value: (item) => item.name, cell: openButton },
    { key: "standing", title: "state", value: (item) => worstFirst[item.standing] ?? 99, cell: standingOf },
  ];
  if (items.some((item) => item.picture)) {
    columns.push({ key: "picture", title: "picture", unit: "data | fit | residual", cell: (item) => thumbnail(item) });
  }
  campaign.labels.forEach((name, place) => {
    const values = items.map((item) => item.labels[place]);
    columns.push({
      key: `l:${name}`,
      title: name,
      kind: "text",
      number: values.every((value) => value === null || typeof value === "number"),
      value: (item) => item.labels[place],
      cell: (item) => labelText(item.labels[place]),
    });
  });
  const told = (key) => campaign.labels.includes(key);
  if (differs("model") && !told("model")) columns.push({ key: "model", title: "model", value: (item) => item.model });
  if (differs("method")) columns.push({ key: "method", title: "method", value: (item) => item.method });
  if (!told("q") && items.some((item) => isNumber(item.q))) {
    columns.push(numberColumn("q", "q", 5, "Å⁻¹"));
  }
  columns.push(...campaign.parameters.filter((parameter) => parameter.free).map(parameterColumn));
  if (items.some((item) => isNumber(item.chi))) columns.push(numberColumn("chi", "χ²", 4, "per point", aligned));
  if (!columns.some(hasAnswer) && items.some((item) => item.reason)) {
    columns.push({ key: "reason", title: "reason", kind: "reason", value: (item) => item.cause });
  }
  if (differs("noise")) columns.push({ key: "noise", title: "noise", value: (item) => item.noise });
  if (items.some((item) => item.evidence)) columns.push(evidenceColumn());
  if (items.some((item) => isNumber(item.seconds))) columns.push(numberColumn("seconds", "time", 3, "s", aligned));
  return columns;
}

const hasAnswer = (column) => column.key.startsWith("p:") || column.key === "chi";

function numberColumn(key, title, digits, unit, text = short) {
  return { key, title, unit, number: true, value: (item) => item[key], cell: (item) => text(item[key], digits) };
}

function evidenceColumn() {
  return {
    key: "evidence",
    title: "evidence",
    unit: "rank of model: nats below the best",
    value: (item) => item.evidence && (item.evidence.rank ?? 1e9) * 1e6 - item.evidence.value,
    cell: (item) => item.evidence && (item.evidence.words || item.evidence.shown),
  };
}

function openButton(item) {
  const button = make("button", { type: "button", class: "link", title: item.name }, item.name);
  button.addEventListener("click", (event) => {
    event.stopPropagation();
    openItem(item);
  });
  return button;
}

// ---- what is shown --------------------------------------------------------------------------------------------------

const columns = columnsOfItems();
const view = { words: [], standings: new Set(), group: null, column: "standing", falling: false, page: 0, size: 50 };
let shownItems = [];
let whenShown = () => {};

for (const item of campaign.items) {
  item.words = [item.name, item.file, item.model, item.method, item.standing, inWords(item.standing), item.reason]
    .concat(item.verdict, item.noise, item.labels.map(labelText), item.warnings)
    .join("\n")
    .toLowerCase();
}

function matches(item) {
  if (view.standings.size && !view.standings.has(item.standing)) return false;
  if (view.group !== null && item.group !== view.group) return false;
  return view.words.every((word) => item.words.includes(word));
}

/** Numbers before text; what is missing stays at the end in both directions. */
function compare(first, second) {
  const missing = (value) => value === null || value === undefined || value === "" || Number.isNaN(value);
  if (missing(first) || missing(second)) return { missing: true, order: missing(first) - missing(second) };
  const limits = { Infinity: Infinity, "-Infinity": -Infinity };
  const [a, b] = [limits[first] ?? first, limits[second] ?? second];
  if (typeof a === "number" && typeof b === "number") return { order: a < b ? -1 : a > b ? 1 : 0 };
  if (typeof a !== typeof b) return { order: typeof a === "number" ? -1 : 1 };
  return { order: collator.compare(a, b) };
}

function select() {
  const column = columns.find((one) => one.key === view.column);
  shownItems = campaign.items.filter(matches).sort((first, second) => {
    const { missing, order } = compare(column.value(first), column.value(second));
    return (view.falling && !missing ? -order : order) || first.index - second.index;
  });
}

function drawHead() {
  const cells = columns.map((column) => {
    const title = make("span", {}, column.title);
    const unit = column.unit ? [make("small", {}, column.unit)] : [];
    const sorted = view.column === column.key ? (view.falling ? "descending" : "ascending") : undefined;
    const cell = make("th", { scope: "col", class: column.number && "number", "aria-sort": sorted });
    if (!column.value) {
      cell.append(title, ...unit);
      return cell;
    }
    const button = make("button", { type: "button", "data-column": column.key }, title, ...unit);
    button.addEventListener("click", () => {
      view.falling = view.column === column.key && !view.falling;
      view.column = column.key;
      view.page = 0;
      show();
      byId("items").querySelector(`[data-column="${CSS.escape(column.key)}"]`).focus();
    });
    cell.append(button);
    return cell;
  });
  byId("items").tHead.replaceChildren(make("tr", {}, ...cells));
}

/** An item without an answer says why across the columns in which the others have numbers. */
function drawRow(item) {
  const row = make("tr");
  const firstNumber = columns.findIndex(hasAnswer);
  columns.forEach((column, place) => {
    const unanswered = item.reason && item.standing === "failed" && firstNumber >= 0 && place >= firstNumber;
    if (unanswered && place > firstNumber) return;
    if (unanswered) {
      row.append(make("td", { class: "reason", colspan: columns.length - firstNumber }, make("span", {}, item.cause)));
      return;
    }
    const content = column.cell ? column.cell(item) : column.value(item);
    const classes = [column.number && "number", column.kind].filter(Boolean).join(" ");
    const title = column.kind === "text" ? content : undefined;
    row.append(make(column.kind === "name" ? "th" : "td", { class: classes || null, title }, content || content === 0 ? content : ABSENT));
  });
  row.addEventListener("click", () => {
    if (!String(getSelection())) openItem(item);
  });
  return row;
}

function drawRows() {
  const pages = Math.max(1, Math.ceil(shownItems.length / view.size));
  view.page = Math.min(Math.max(0, view.page), pages - 1);
  const first = view.page * view.size;
  const slice = shownItems.slice(first, first + view.size);
  const nothing = campaign.items.length ? "No item matches." : "There are no items.";
  const rows = slice.length ? slice.map(drawRow) : [make("tr", {}, make("td", { colspan: columns.length }, nothing))];
  byId("items").tBodies[0].replaceChildren(...rows);
  byId("pages").hidden = pages === 1;
  byId("pages").querySelector("span").textContent = `page ${view.page + 1} of ${pages}`;
  byId("before").disabled = view.page === 0;
  byId("after").disabled = view.page === pages - 1;
  const range = slice.length ? `, rows ${first + 1} to ${first + slice.length}` : "";
  byId("shown").textContent = `${shownItems.length} of ${countOf(campaign.items.length)}${pages > 1 ? range : ""}`;
}

function show() {
  select();
  drawHead();
  drawRows();
  whenShown();
}

// ---- filters --------------------------------------------------------------------------------------------------------

function drawStandings() {
  const counts = new Map();
  for (const item of campaign.items) counts.set(item.standing, (counts.get(item.standing) ?? 0) + 1);
  const names = [...counts.keys()].sort((first, second) => (worstFirst[first] ?? 99) - (worstFirst[second] ?? 99));
  byId("standings").replaceChildren(
    ...names.map((name) => {
      const words = make("span", { class: `standing ${name}` }, `${inWords(name)} ${counts.get(name)}`);
      const button = make("button", { type: "button", "aria-pressed": "false", "data-standing": name }, words);
      button.addEventListener("click", () => {
        if (!view.standings.delete(name)) view.standings.add(name);
        button.setAttribute("aria-pressed", String(view.standings.has(name)));
        view.page = 0;
        show();
      });
      return button;
    }),
  );
}

function chooseGroup(group) {
  view.group = view.group === group ? null : group;
  for (const button of document.querySelectorAll("[data-group]")) {
    button.setAttribute("aria-pressed", String(Number(button.dataset.group) === view.group));
  }
  view.page = 0;
  show();
}

function showAll() {
  Object.assign(view, { words: [], group: null, column: "standing", falling: false, page: 0 });
  view.standings.clear();
  byId("find").value = "";
  for (const button of document.querySelectorAll("[aria-pressed]")) button.setAttribute("aria-pressed", "false");
  show();
}

function turnPage(step) {
  view.page += step;
  drawRows();
}

function listen() {
  let waiting = 0;
  byId("find").addEventListener("input", () => {
    clearTimeout(waiting);
    waiting = setTimeout(() => {
      view.words = byId("find").value.toLowerCase().split(/\s+/).filter(Boolean);
      view.page = 0;
      show();
    }, 80);
  });
  byId("filters").addEventListener("submit", (event) => event.preventDefault());
  byId("size").addEventListener("change", () => {
    Object.assign(view, { size: Number(byId("size").value), page: 0 });
    drawRows();
  });
  byId("clear").addEventListener("click", showAll);
  byId("before").addEventListener("click", () => turnPage(-1));
  byId("after").addEventListener("click", () => turnPage(1));
  for (const button of document.querySelectorAll("[data-group]")) {
    button.addEventListener("click", () => chooseGroup(Number(button.dataset.group)));
  }
}
