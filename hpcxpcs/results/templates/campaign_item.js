// One item: its thumbnail in the table, and everything about it in a dialog.

const GAP = 2;
const SEQUENTIAL = ["#440154", "#46327e", "#365c8d", "#277f8e", "#1fa187", "#4ac16d", "#a0da39", "#fde725"];
const DIVERGING = ["#2166ac", "#67a9cf", "#d1e5f0", "#f7f7f7", "#fddbc7", "#ef8a62", "#b2182b"];

/** Colours [r, g, b] of the bytes 0 to 254, between the given ones. */
function colourTable(stops) {
  const parsed = stops.map((stop) => [1, 3, 5].map((place) => parseInt(stop.slice(place, place + 2), 16)));
  return Array.from({ length: campaign.missing }, (_, level) => {
    const position = (level / (campaign.missing - 1)) * (parsed.length - 1);
    const left = Math.min(Math.floor(position), parsed.length - 2);
    return parsed[left].map((from, k) => Math.round(from + (parsed[left + 1][k] - from) * (position - left)));
  });
}

const sequential = colourTable(SEQUENTIAL);
const diverging = colourTable(DIVERGING);
const panelColours = [sequential, sequential, diverging];

/** Panels of a picture side by side, one pixel a point, time running up; points without a value stay transparent. */
function pictureCanvas({ side, bytes }, panels, label) {
  const levels = Uint8Array.from(atob(bytes), (character) => character.charCodeAt(0));
  const width = panels.length * side + (panels.length - 1) * GAP;
  const canvas = make("canvas", { width, height: side, role: "img", "aria-label": label });
  const context = canvas.getContext("2d");
  const image = context.createImageData(width, side);
  panels.forEach((panel, place) => {
    for (let row = 0; row < side; row += 1) {
      for (let column = 0; column < side; column += 1) {
        const level = levels[(panel * side + row) * side + column];
        if (level === campaign.missing) continue;
        const at = 4 * ((side - 1 - row) * width + place * (side + GAP) + column);
        image.data.set([...panelColours[panel][level], 255], at);
      }
    }
  });
  context.putImageData(image, 0, 0);
  return canvas;
}

function thumbnail(item) {
  if (!item.picture) return ABSENT;
  return pictureCanvas(item.picture, [0, 1, 2], `data, fit and residual of ${item.name}`);
}

function pictures(item) {
  const [low, high, limit] = item.picture.shown;
  const captions = ["data", "fit", "residual"];
  const ranges = [`${low} to ${high}`, `${low} to ${high}`, `±${limit} of its error`];
  return make(
    "div",
    { class: "pictures" },
    ...captions.map((caption, panel) =>
      make(
        "figure",
        {},
        make("figcaption", {}, caption, " ", make("span", { class: "soft" }, `(${ranges[panel]})`)),
        pictureCanvas(item.picture, [panel], `${caption} of ${item.name}`),
      ),
    ),
  );
}

function facts(item) {
  const found = campaign.labels.map((name, place) => [name, labelText(item.labels[place])]);
  found.push(["file", item.file], ["model", item.model], ["method", item.method], ["noise", item.noise]);
  if (isNumber(item.q)) found.push(["q", `${short(item.q, 6)} Å⁻¹`]);
  if (isNumber(item.chi)) found.push(["χ² per point", short(item.chi, 5)]);
  if (item.evidence) {
    const rank = item.evidence.words ? ` (${item.evidence.words})` : "";
    found.push(["log-evidence", `${item.evidence.shown} nats${rank}`]);
  }
  if (isNumber(item.seconds)) found.push(["time", `${short(item.seconds)} s`]);
  const rows = found.filter(([, value]) => value).map(([name, value]) => make("tr", {}, make("th", { scope: "row" }, name), make("td", {}, value)));
  return make("table", {}, make("tbody", {}, ...rows));
}

function remark(found) {
  if (found.held) return "held";
  return found.bound ? `at its ${found.bound} bound` : "";
}

function parameterTable(item) {
  const lines = Object.entries(item.parameters);
  const shared = new Set(lines.map(([, found]) => found.probability).filter(isNumber));
  const interval = shared.size === 1 ? `${short(100 * [...shared][0], 3)} % interval` : "interval";
  const columns = [
    ["value ± error", (found) => found.shown],
    [interval, (found) => found.interval],
    ["unit", (_, name) => campaign.parameters.find((parameter) => parameter.name === name).unit],
    ["", remark],
    ["truth", (found) => found.beside],
    ["off by", (found) => found.off],
  ].filter(([, text]) => lines.some(([name, found]) => text(found, name)));
  const head = ["parameter", ...columns.map(([title]) => title)].map((title) => make("th", { scope: "col" }, title));
  const rows = lines.map(([name, found]) =>
    make("tr", {}, make("th", { scope: "row" }, name), ...columns.map(([, text]) => make("td", {}, text(found, name) ?? ""))),
  );
  return make(
    "div",
    { class: "scroll" },
    make("table", { class: "answer" }, make("thead", {}, make("tr", {}, ...head)), make("tbody", {}, ...rows)),
  );
}

/** Everything that is known of an item, as elements. */
function itemContent(item) {
  const parts = [make("p", {}, standingOf(item), item.verdict ? ` ${item.verdict}` : "")];
  if (item.reason) parts.push(make("p", {}, make("b", {}, "Why: "), item.reason));
  if (item.warnings.length) {
    parts.push(make("p", {}, "Before you quote the numbers:"));
    parts.push(make("ul", {}, ...item.warnings.map((warning) => make("li", {}, warning))));
  }
  if (Object.keys(item.parameters).length) parts.push(parameterTable(item));
  if (item.picture) parts.push(pictures(item));
  if (item.report) parts.push(make("p", {}, make("a", { href: item.report }, "the whole report of this item")));
  parts.push(facts(item));
  return parts;
}

function openItem(item) {
  const place = shownItems.indexOf(item);
  byId("item-name").textContent = item.name;
  byId("item-content").replaceChildren(...itemContent(item));
  byId("item-before").disabled = place <= 0;
  byId("item-after").disabled = place < 0 || place === shownItems.length - 1;
  const dialog = byId("item");
  dialog.dataset.place = place;
  if (!dialog.open) dialog.showModal();
  dialog.scrollTop = 0;
}

function openNeighbour(step) {
  const place = Number(byId("item").dataset.place);
  const item = place < 0 ? undefined : shownItems[place + step];
  if (item) openItem(item);
}

function listenToDialog() {
  const dialog = byId("item");
  byId("item-before").addEventListener("click", () => openNeighbour(-1));
  byId("item-after").addEventListener("click", () => openNeighbour(1));
  dialog.addEventListener("keydown", (event) => {
    if (event.key === "ArrowLeft") openNeighbour(-1);
    if (event.key === "ArrowRight") openNeighbour(1);
  });
  dialog.addEventListener("click", (event) => {
    const frame = dialog.getBoundingClientRect();
    const outside =
      event.clientX < frame.left || event.clientX > frame.right || event.clientY < frame.top || event.clientY > frame.bottom;
    if (event.target === dialog && outside) dialog.close();
  });
}
