// Trends of parameters against labels, and powers of q: drawn as SVG from the numbers of the items.

const SVG = "http://www.w3.org/2000/svg";
const HEIGHT = 400;
const MARGIN = { left: 92, right: 18, top: 16, bottom: 58 };
const COLOURS = 8;
const MOST_SIDE_BY_SIDE = 24;
const SAME_FOR = { good: "var(--good)", acceptable: "var(--caution)", poor: "var(--bad)" };

function draw(tag, attributes, text) {
  const element = document.createElementNS(SVG, tag);
  for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, value);
  if (text !== undefined) element.textContent = text;
  return element;
}

/** Round numbers between low and high, about `count` of them. */
function ticksBetween(low, high, count) {
  const rough = (high - low) / count;
  const power = 10 ** Math.floor(Math.log10(rough));
  const step = power * [1, 2, 5, 10].find((factor) => factor * power >= rough * 0.999);
  const first = Math.ceil(low / step - 1e-9);
  const number = Math.floor(high / step + 1e-9) - first + 1;
  return Array.from({ length: number }, (_, k) => Number(((first + k) * step).toPrecision(12)));
}

function ticksOfPowers(low, high, count) {
  const decades = Math.log10(high / low);
  if (decades < 0.7) return ticksBetween(low, high, count);
  const factors = decades < 2.5 ? [1, 2, 5] : [1];
  const stride = Math.max(1, Math.ceil(decades / 10));
  const found = [];
  for (let power = Math.floor(Math.log10(low)); power <= Math.ceil(Math.log10(high)); power += stride) {
    for (const factor of factors) found.push(Number(`${factor}e${power}`));
  }
  return found.filter((value) => value >= low * 0.999 && value <= high * 1.001);
}

const SUPERSCRIPTS = "⁰¹²³⁴⁵⁶⁷⁸⁹";

/** A power of ten as it stands with a unit, for numbers too large or too small to be written out. */
function commonPower(values) {
  const power = Math.floor(Math.log10(Math.max(...values.map(Math.abs))));
  return Number.isFinite(power) && (power < -3 || power > 5) ? power : 0;
}

function inPowersOfTen(power) {
  const digits = [...String(Math.abs(power))].map((digit) => SUPERSCRIPTS[digit]).join("");
  return `10${power < 0 ? "⁻" : ""}${digits}`;
}

/** A scale from numbers to pixels that leaves a margin around the values; `names` make it one of categories. */
function scaleOf(values, { log, from, to, count, names }) {
  const forward = log ? Math.log : (value) => value;
  let [low, high] = values.reduce(([a, b], value) => [Math.min(a, value), Math.max(b, value)], [Infinity, -Infinity]);
  let [first, last] = [forward(low), forward(high)];
  const room = first === last ? Math.abs(first) * 0.1 || 0.5 : (last - first) * 0.05;
  [first, last] = names ? [-0.6, names.length - 0.4] : [first - room, last + room];
  [low, high] = log ? [Math.exp(first), Math.exp(last)] : [first, last];
  const at = (value) => from + ((forward(value) - first) / (last - first)) * (to - from);
  const step = names ? Math.ceil(names.length / (count * 1.5)) : 1;
  if (names) return { at, ticks: names.map((name, k) => [k, name]).filter(([k]) => k % step === 0), low, high, power: 0 };
  const round = (log ? ticksOfPowers : ticksBetween)(low, high, count);
  const power = log ? 0 : commonPower(round);
  return { at, ticks: round.map((value) => [value, short(value / 10 ** power, 6)]), low, high, power };
}

/** The title of an axis: a quantity with its unit, and the power of ten that its numbers leave out. */
function axisTitle({ title, unit }, power) {
  const parts = [power && inPowersOfTen(power), unit].filter(Boolean);
  return parts.length ? `${title} (${parts.join(" ")})` : title;
}

function drawAxes(svg, x, y, width, titles) {
  const bottom = HEIGHT - MARGIN.bottom;
  const right = width - MARGIN.right;
  for (const [value, text] of y.ticks) {
    svg.append(draw("path", { class: "grid", d: `M${MARGIN.left} ${y.at(value)}H${right}` }));
    svg.append(draw("text", { x: MARGIN.left - 8, y: y.at(value) + 4, "text-anchor": "end" }, text));
  }
  for (const [value, text] of x.ticks) {
    svg.append(draw("path", { class: "axis", d: `M${x.at(value)} ${bottom}v6` }));
    const cut = text.length > 14 ? `${text.slice(0, 13)}…` : text;
    svg.append(draw("text", { x: x.at(value), y: bottom + 21, "text-anchor": "middle" }, cut));
  }
  svg.append(draw("path", { class: "axis", d: `M${MARGIN.left} ${MARGIN.top}V${bottom}H${right}` }));
  svg.append(draw("text", { x: (MARGIN.left + right) / 2, y: HEIGHT - 12, "text-anchor": "middle" }, axisTitle(titles.x, x.power)));
  const middle = (MARGIN.top + bottom) / 2;
  svg.append(draw("text", { x: 16, y: middle, "text-anchor": "middle", transform: `rotate(-90 16 ${middle})` }, axisTitle(titles.y, y.power)));
}

/** Pixels by which a point stands beside its place, so that few colours at few places do not hide each other. */
function sideBySide(points) {
  const colours = [...new Set(points.map((point) => point.colour))];
  const places = new Set(points.map((point) => point.x)).size;
  if (colours.length > COLOURS || places > MOST_SIDE_BY_SIDE || places === points.length) return () => 0;
  return (point) => (colours.indexOf(point.colour) - (colours.length - 1) / 2) * 9;
}

/** Points {item, x, y, low, high, colour, truth} with bars between low and high, and a curve [[x, y], …]. */
function drawPlot(place, points, { titles, logX, logY, names, curve = [] }) {
  const width = Math.max(360, place.clientWidth);
  const svg = draw("svg", { viewBox: `0 0 ${width} ${HEIGHT}`, role: "img", "aria-label": `${titles.y.title} against ${titles.x.title}` });
  const reach = points.flatMap((point) => [point.y, point.low, point.high, point.truth]).concat(curve.map(([, value]) => value));
  const inside = reach.filter((value) => isNumber(value) && (!logY || value > 0));
  const x = scaleOf(points.map((point) => point.x), { log: logX, from: MARGIN.left, to: width - MARGIN.right, count: width / 110, names });
  const y = scaleOf(inside, { log: logY, from: HEIGHT - MARGIN.bottom, to: MARGIN.top, count: 6 });
  drawAxes(svg, x, y, width, titles);
  const beside = sideBySide(points);
  const bars = new Map();
  for (const point of points) {
    const { x: at, low, high, colour } = point;
    if (!isNumber(low) || !isNumber(high)) continue;
    const [left, from, to] = [x.at(at) + beside(point), y.at(logY ? Math.max(low, y.low) : low), y.at(high)];
    bars.set(colour, `${bars.get(colour) ?? ""}M${left} ${from}V${to}M${left - 3} ${from}h6M${left - 3} ${to}h6`);
  }
  for (const [colour, d] of bars) svg.append(draw("path", { class: "bars", d, stroke: colour }));
  const known = points.filter((point) => isNumber(point.truth) && (!logY || point.truth > 0));
  const marks = known.map((point) => `M${x.at(point.x) - 7} ${y.at(point.truth)}h14`).join("");
  if (marks) svg.append(draw("path", { class: "truth", d: marks }));
  if (curve.length) {
    const line = curve.map(([at, value]) => `${x.at(at)} ${y.at(value)}`).join("L");
    svg.append(draw("path", { class: "curve", d: `M${line}` }));
  }
  for (const point of points) {
    const fill = point.item.standing === "poor" ? "var(--paper)" : point.colour;
    const circle = draw("circle", { cx: x.at(point.x) + beside(point), cy: y.at(point.y), r: 4, fill, stroke: point.colour });
    circle.append(draw("title", {}, `${point.item.name}: ${point.text}`));
    circle.addEventListener("click", () => openItem(point.item));
    svg.append(circle);
  }
  place.replaceChildren(svg);
}

// ---- trends ---------------------------------------------------------------------------------------------------------

const options = (pairs) => pairs.map(([value, text]) => make("option", { value }, text));

function quantities() {
  const found = campaign.parameters.filter((parameter) => parameter.free).map(({ name, unit }) => ({
    key: `p:${name}`,
    title: name,
    unit,
    of: (item) => item.parameters[name],
  }));
  const plain = (key, title, unit) => ({ key, title, unit, of: (item) => ({ value: item[key], shown: short(item[key]) }) });
  return [...found, plain("chi", "χ² per point"), plain("seconds", "time", "s")].filter((quantity) =>
    campaign.items.some((item) => isNumber(quantity.of(item)?.value)),
  );
}

/** What trends are drawn against: q, labels (text in the order of the table's columns), and the number of the item. */
function abscissas() {
  const found = campaign.labels.map((name, place) => ({ key: `l:${name}`, title: name, of: (item) => item.labels[place] }));
  if (!campaign.labels.includes("q") && differs("q")) found.push({ key: "q", title: "q", unit: "Å⁻¹", of: (item) => item.q });
  if (differs("model") && !campaign.labels.includes("model")) found.push({ key: "model", title: "model", of: (item) => item.model });
  return [...found, { key: "index", title: "number of the item", of: (item) => item.index }];
}

const trend = { y: quantities(), x: abscissas() };

function chosen(list, id) {
  return list.find((one) => one.key === byId(id).value) ?? list[0];
}

function colouring(items) {
  const by = byId("trend-colour").value;
  if (by === "") return { colour: () => "var(--c0)", legend: [] };
  const of = by === "standing" ? (item) => inWords(item.standing) : chosen(trend.x, "trend-colour").of;
  const values = [...new Set(items.map(of))].sort((first, second) => compare(first, second).order);
  if (by === "standing") {
    const colours = new Map(items.map((item) => [of(item), SAME_FOR[item.standing] ?? "var(--c0)"]));
    return { colour: (item) => colours.get(of(item)), legend: [...colours] };
  }
  const numbers = values.filter(isNumber);
  if (numbers.length > COLOURS) {
    const [low, high] = [numbers[0], numbers.at(-1)];
    const colour = (value) => (isNumber(value) ? `rgb(${sequential[Math.round(((value - low) / (high - low)) * 235)]})` : "var(--c7)");
    const steps = [low, (low + high) / 2, high].map((value) => [short(value), colour(value)]);
    return { colour: (item) => colour(of(item)), legend: steps };
  }
  const place = new Map(values.map((value, k) => [value, Math.min(k, COLOURS - 1)]));
  const names = values.slice(0, COLOURS).map((value, k) => [k === COLOURS - 1 && values.length > COLOURS ? "others" : labelText(value), `var(--c${k})`]);
  return { colour: (item) => `var(--c${place.get(of(item))})`, legend: names };
}

function legendOf(legend) {
  return legend.map(([name, colour]) => {
    const swatch = make("span", { "aria-hidden": "true" }, "● ");
    swatch.style.color = colour;
    return make("span", { class: "legend" }, swatch, name);
  });
}

function barsOf(found) {
  const kind = byId("trend-bars").value;
  if (kind === "interval") return { low: found.low, high: found.high };
  if (kind === "error" && isNumber(found.error)) return { low: found.value - found.error, high: found.value + found.error };
  return {};
}

function drawTrend() {
  const [yOf, xOf] = [chosen(trend.y, "trend-y"), chosen(trend.x, "trend-x")];
  const held = (item) => yOf.of(item)?.held;
  let items = shownItems.filter((item) => isNumber(yOf.of(item)?.value) && !held(item) && labelText(xOf.of(item)) !== ABSENT);
  const names = items.every((item) => isNumber(xOf.of(item)))
    ? undefined
    : [...new Set(items.map((item) => labelText(xOf.of(item))))].sort(collator.compare);
  const [logX, logY] = [byId("trend-log-x").checked && !names, byId("trend-log-y").checked];
  const before = items.length;
  items = items.filter((item) => (!logX || xOf.of(item) > 0) && (!logY || yOf.of(item).value > 0));
  byId("trend-log-x").disabled = Boolean(names);
  const place = byId("trend");
  if (!items.length) {
    place.replaceChildren(make("p", { class: "soft" }, "None of the items that are shown has such a value."));
    byId("trend-words").replaceChildren();
    return;
  }
  const { colour, legend } = colouring(items);
  const points = items.map((item) => {
    const found = yOf.of(item);
    const x = names ? names.indexOf(labelText(xOf.of(item))) : xOf.of(item);
    return { item, x, y: found.value, ...barsOf(found), truth: found.truth, colour: colour(item), text: found.shown };
  });
  drawPlot(place, points, { titles: { x: xOf, y: yOf }, logX, logY, names });
  const words = [`${countOf(items.length)}.`];
  if (before > items.length) words.push(`${before - items.length} lie at or below 0 and have no logarithm.`);
  if (points.some((point) => isNumber(point.truth))) words.push("Dashes: what the data were simulated with.");
  byId("trend-words").replaceChildren(...legendOf(legend), words.join(" "));
}

// ---- powers of q ----------------------------------------------------------------------------------------------------

let lawShown = null;

function lawsShown() {
  return campaign.laws.filter((law) => law.parameter === byId("law-parameter").value);
}

function drawLaw(law) {
  lawShown = law;
  const points = law.points.map(([place, q]) => {
    const item = campaign.items[place];
    const { value, error, truth, shown } = item.parameters[law.parameter];
    const colour = SAME_FOR[item.standing] ?? "var(--c0)";
    return { item, x: q * q, y: value, low: value - error, high: value + error, truth, colour, text: `${shown} at q = ${short(q)}` };
  });
  const [first, last] = [law.points[0][1], law.points.at(-1)[1]];
  const curve = Array.from({ length: 41 }, (_, k) => {
    const q = first * (last / first) ** (k / 40);
    return [q * q, law.amplitude * (q / law.middle) ** law.exponent];
  });
  drawPlot(byId("law"), points, { titles: { x: { title: "q²", unit: "Å⁻²" }, y: { title: law.parameter, unit: law.unit } }, curve });
  const doubtful = law.poor ? ` Of poor quality: ${law.poor} of ${countOf(law.points.length)}.` : "";
  const without = law.without ? ` Without them: ${law.without}.` : "";
  byId("law-words").textContent = `${law.of}: ${law.words}.${doubtful}${without}`;
  for (const button of byId("law-table").querySelectorAll("button")) {
    button.setAttribute("aria-pressed", String(button.law === law));
  }
}

function drawLaws() {
  const titles = ["items", "how many", "exponent", "95 % interval", "χ² / freedom", "chance", ""];
  const head = titles.map((title) => make("th", { scope: "col" }, title));
  byId("law-table").tHead.replaceChildren(make("tr", {}, ...head));
  const laws = lawsShown();
  const rows = laws.map((law) => {
    const button = make("button", { type: "button", class: "link", "aria-pressed": "false" }, law.of);
    button.law = law;
    button.addEventListener("click", () => drawLaw(law));
    const numbers = [law.points.length, law.shown, law.interval, `${short(law.chi, 3)} / ${law.freedom}`, short(law.chance, 2)];
    const meaning = make("td", { class: law.holds ? null : "misfit" }, law.meaning);
    return make("tr", {}, make("th", { scope: "row" }, button), ...numbers.map((text) => make("td", {}, text)), meaning);
  });
  byId("law-table").tBodies[0].replaceChildren(...rows);
  drawLaw(laws[0]);
}

// ---- begin ----------------------------------------------------------------------------------------------------------

/** What to draw against and colour by at first: labels that tables are arranged by, then others; few colours at a time. */
function usualChoices() {
  const labels = [...campaign.group_by, ...campaign.labels].filter((name) => campaign.labels.includes(name));
  const keys = [...new Set([...labels.map((name) => `l:${name}`), ...trend.x.map(({ key }) => key)])];
  const few = (key) => new Set(campaign.items.map(trend.x.find((one) => one.key === key).of)).size <= COLOURS;
  return [keys[0], keys.slice(1).find((key) => key !== "index" && few(key)) ?? "standing"];
}

function beginTrends() {
  if (!trend.y.length) return;
  byId("trends").hidden = false;
  byId("trend-y").replaceChildren(...options(trend.y.map(({ key, title }) => [key, title])));
  byId("trend-x").replaceChildren(...options(trend.x.map(({ key, title }) => [key, title])));
  const colours = [["", "nothing"], ["standing", "quality"], ...trend.x.slice(0, -1).map(({ key, title }) => [key, title])];
  byId("trend-colour").replaceChildren(...options(colours));
  const [x, colour] = usualChoices();
  byId("trend-x").value = x;
  byId("trend-colour").value = colour;
  byId("trends").querySelector(".choices").addEventListener("change", drawTrend);
  whenShown = drawTrend;
}

function beginLaws() {
  if (!campaign.laws.length) return;
  byId("laws").hidden = false;
  const names = [...new Set(campaign.laws.map((law) => law.parameter))];
  byId("law-parameter").replaceChildren(...options(names.map((name) => [name, name])));
  byId("law-parameter").value = names.find((name) => name.startsWith("D0")) ?? names[0];
  byId("law-parameter").addEventListener("change", drawLaws);
  drawLaws();
}

function redrawWhenResized() {
  let waiting = 0;
  addEventListener("resize", () => {
    clearTimeout(waiting);
    waiting = setTimeout(() => {
      if (trend.y.length) drawTrend();
      if (lawShown) drawLaw(lawShown);
    }, 150);
  });
}

drawStandings();
listen();
listenToDialog();
beginTrends();
show();
beginLaws();
redrawWhenResized();
