// The console: asks /admin for figures again and again, and shows them. What comes from requests is only ever text.
import { Charts } from "/console/charts.js";

const PERIODS = {
  hour: { since: "60m", by: "minute", count: 60, stepS: 60 },
  day: { since: "24h", by: "hour", count: 24, stepS: 3600 },
  week: { since: "7d", by: "day", count: 7, stepS: 86400 },
  month: { since: "30d", by: "day", count: 30, stepS: 86400 },
};
const LENGTH = { minute: 16, hour: 13, day: 10 };
const EVERY_MS = 1000;
const SLOWER = 10; // Sums over days are asked for at every tenth turn alone.
const WITHIN_MS = 10000;
const FIRST_ROWS = 10;
const KEY = "farthing-admin-key";

const at = (id) => document.getElementById(id);
const charts = new Charts({ time: at("time-chart"), mix: at("mix-chart") });
const shown = new Map();
let turn = 0;
let timer = 0;
let asking = new AbortController();
let known = null;
let explaining = 0;

class Refused extends Error {
  constructor(status, message) {
    super(message);
    this.status = status;
  }
}

async function ask(path, options = {}) {
  const key = sessionStorage.getItem(KEY);
  const headers = { ...options.headers, ...(key ? { authorization: `Bearer ${key}` } : {}) };
  const signal = AbortSignal.any([asking.signal, AbortSignal.timeout(WITHIN_MS)]);
  const response = await fetch(path, { ...options, headers, signal, cache: "no-store", credentials: "omit" });
  const answer = await response.json();
  if (!response.ok) throw new Refused(response.status, answer.error?.message ?? `status ${response.status}`);
  return answer;
}

// -- writing ----------------------------------------------------------------------------------------------------------

function element(tag, { text, className, title, children = [], attributes = {} } = {}) {
  const made = document.createElement(tag);
  if (text !== undefined) made.textContent = text;
  if (className) made.className = className;
  if (title) made.title = title;
  for (const [name, value] of Object.entries(attributes)) made.setAttribute(name, value);
  made.append(...children);
  return made;
}

const cell = (text, className, label) => element("td", { text, className, attributes: label ? { "data-label": label } : {} });

function usd(amount) {
  if (amount === null || amount === undefined) return "–";
  const size = Math.abs(amount);
  const digits = size === 0 || size >= 1 ? 2 : size >= 0.01 ? 4 : 6;
  return `${amount < 0 ? "−" : ""}$${size.toFixed(digits)}`;
}

function percent(part, whole) {
  return whole > 0 ? `${((100 * part) / whole).toFixed(1)} %` : "–";
}

function duration(ms) {
  return ms >= 1000 ? `${(ms / 1000).toFixed(1)} s` : `${Math.round(ms)} ms`;
}

function when(at) {
  const time = new Date(at);
  const today = time.toDateString() === new Date().toDateString();
  return today ? time.toLocaleTimeString() : time.toLocaleString();
}

function bar(parts, kind = "", label = "") {
  const attributes = label ? { role: "img", "aria-label": label } : {};
  const spans = parts.map(([share, className]) => {
    const span = element("span", { className });
    span.style.width = `${Math.max(0, Math.min(100, share))}%`;
    return span;
  });
  return element("div", { className: `bar ${parts.length > 1 ? "split" : ""} ${kind}`, attributes, children: spans });
}

// Writes a part of the page where what it shows has changed; else the eye and a screen reader are left alone.
function changed(name, value) {
  const text = JSON.stringify(value);
  if (shown.get(name) === text) return false;
  shown.set(name, text);
  return true;
}

// The first rows are shown, the others at a press of the button below; console.css hides them.
function fill(id, rows) {
  at(id).replaceChildren(...rows);
  fold(id);
}

function fold(id) {
  const button = document.querySelector(`button[aria-controls="${id}"]`);
  const few = at(id).classList.contains("few");
  button.hidden = at(id).children.length <= FIRST_ROWS;
  button.textContent = few ? `Show all ${at(id).children.length}` : `Show the first ${FIRST_ROWS}`;
  button.setAttribute("aria-expanded", String(!few));
}

// -- figures ----------------------------------------------------------------------------------------------------------

function sums(rows, name) {
  const found = new Map();
  for (const row of rows) {
    const sum = found.get(row[name]) ?? { name: row[name], requests: 0, cost: 0, baseline: 0, saved: 0 };
    sum.requests += row.requests;
    sum.cost += row.cost_usd;
    sum.baseline += row.baseline_usd;
    sum.saved += row.saved_usd;
    found.set(row[name], sum);
  }
  return [...found.values()].sort((one, other) => other.cost - one.cost || other.requests - one.requests);
}

function buckets(rows, period) {
  const byName = new Map(sums(rows, period.by).map((sum) => [sum.name, sum]));
  const now = Math.floor(Date.now() / 1000 / period.stepS) * period.stepS;
  return Array.from({ length: period.count }, (_, index) => {
    const time = new Date((now - (period.count - 1 - index) * period.stepS) * 1000);
    const sum = byName.get(time.toISOString().slice(0, LENGTH[period.by]));
    return { time, cost: sum?.cost ?? 0, baseline: sum?.baseline ?? 0 };
  });
}

function label(time, by) {
  const options = by === "day" ? { month: "short", day: "numeric", timeZone: "UTC" } : { hour: "2-digit", minute: "2-digit" };
  return time.toLocaleString(undefined, options);
}

function showSpend(spend, period) {
  at("spent").textContent = usd(spend.total_usd);
  at("baseline").textContent = usd(spend.baseline_usd);
  at("overhead").textContent = usd(spend.overhead_usd);
  at("requests-count").textContent = spend.requests.toLocaleString();
  const share = spend.baseline_usd > 0 ? `${percent(spend.saved_usd, spend.baseline_usd)} of the baseline` : "";
  at("saved").replaceChildren(usd(spend.saved_usd), element("small", { text: share }));
  at("saved").className = spend.saved_usd < 0 ? "bad" : spend.saved_usd > 0 ? "good" : "";
  showTime(buckets(spend.rows, period), period);
  showMix(sums(spend.rows, "model"), spend.requests);
  showTasks(sums(spend.rows, "task"));
}

function showTime(points, period) {
  if (!changed("time", points)) return;
  const labels = points.map((point) => label(point.time, period.by));
  const most = Math.max(...points.map((point) => point.cost));
  at("time-from").textContent = labels[0];
  at("time-to").textContent = labels.at(-1);
  at("time-most").textContent = `at most ${usd(most)} per ${period.by}`;
  const drawn = charts.time(labels, points.map((point) => point.cost), points.map((point) => point.baseline));
  for (const id of ["time-bars", "time-from", "time-to"]) at(id).hidden = drawn;
  if (drawn) return;
  at("time-bars").replaceChildren(
    ...points.map((point) => {
      const span = element("span");
      span.style.height = `${most > 0 ? (100 * point.cost) / most : 0}%`;
      return span;
    }),
  );
}

function showMix(models, requests) {
  if (!changed("mix", models)) return;
  charts.mix(models.map((model) => model.name), models.map((model) => model.requests));
  fill(
    "mix",
    models.map((model) => {
      const share = element("td", { text: percent(model.requests, requests) });
      share.append(bar([[(100 * model.requests) / Math.max(1, requests), ""]]));
      return element("tr", { children: [cell(model.name), share, cell(usd(model.cost), "number")] });
    }),
  );
}

function showTasks(tasks) {
  if (!changed("tasks", tasks)) return;
  fill(
    "tasks",
    tasks.map((task) => {
      const kind = task.saved < 0 ? "bad" : "good";
      const share = element("td", { text: percent(task.saved, task.baseline) });
      share.append(bar([[task.baseline > 0 ? (100 * Math.abs(task.saved)) / task.baseline : 0, ""]], kind));
      const children = [cell(task.name), cell(task.requests.toLocaleString(), "number wide"), cell(usd(task.cost), "number")];
      return element("tr", { children: [...children, cell(usd(task.saved), `number ${kind}`), share] });
    }),
  );
}

function showBudgets(budgets) {
  if (!changed("budgets", budgets)) return;
  const items = [...budgets].sort((one, other) => other.used_pct - one.used_pct).map((budget) => {
    const name = budget.scope === "global" ? "everything" : `${budget.scope} ${budget.name}`;
    const used = `${usd(budget.spent_usd)} of ${usd(budget.limit_usd)} (${budget.used_pct.toFixed(1)} %)`;
    const parts = [[(100 * budget.spent_usd) / budget.limit_usd, ""], [(100 * budget.held_usd) / budget.limit_usd, "held"]];
    // As the alerts do: from 95 % no request of usual size may fit any more.
    const kind = budget.used_pct >= 95 ? "bad" : budget.used_pct >= 80 ? "near" : "";
    const title = element("p", { children: [element("span", { text: `${name}, this ${budget.window}` }), element("span", { text: used })] });
    const rest = `${usd(budget.remaining_usd)} left, ${usd(budget.held_usd)} held; begins anew ${new Date(budget.ends_at).toLocaleString()}`;
    const soft = budget.on_exceeded === "warn" ? "; it only warns" : "";
    return element("li", { children: [title, bar(parts, kind, `${name}: ${used}`), element("small", { text: rest + soft })] });
  });
  at("budgets").replaceChildren(...(items.length ? items : [element("li", { text: "No policy sets a budget of an hour, a day or a month." })]));
}

function showRequests(requests) {
  if (!changed("requests", requests)) return;
  const fresh = known;
  known = new Set(requests.map((request) => request.id));
  fill(
    "requests",
    requests.map((request) => {
      const bad = ["failed", "refused"].includes(request.outcome);
      const model = element("td", { text: request.model ?? "–" });
      if (![request.model, "auto"].includes(request.requested_model)) model.append(element("small", { text: `asked: ${request.requested_model}` }));
      const outcome = element("td", { text: request.outcome, className: bad ? "bad" : "" });
      if (request.error) outcome.append(element("small", { text: request.error }));
      const held = request.outcome === "held";
      const saved = held || !request.baseline_usd ? "–" : usd(request.baseline_usd - request.cost_usd);
      const time = element("td", { text: when(request.at), title: request.id, className: "brief" });
      const children = [time, cell(request.task), model, outcome, cell((held ? "≤ " : "") + usd(request.cost_usd), "number", "cost")];
      children.push(cell(saved, "number", "saved"), cell(held ? "–" : duration(request.latency_ms), "number", "took"), cell(request.reason, "why"));
      const className = fresh && !fresh.has(request.id) ? "fresh" : "";
      return element("tr", { className, children, attributes: { "data-id": request.id } });
    }),
  );
}

function showPolicies(policies) {
  if (!changed("policies", policies)) return;
  const faults = policies.faults.length ? `; the last edit has faults: ${policies.faults.join(" · ")}` : "";
  at("revision").textContent = `Policies ${policies.revision}, in force since ${new Date(policies.since).toLocaleString()}${faults}`;
  offer("task", "as the request says", Object.keys(policies.tasks));
  offer("account", "none", policies.accounts);
  at("account-label").hidden = policies.accounts.length === 0;
}

// Fills a list of choices, and keeps what was chosen where it is still there.
function offer(id, none, names) {
  const chosen = at(id).value;
  const options = names.map((name) => element("option", { text: name, attributes: { value: name } }));
  at(id).replaceChildren(element("option", { text: none, attributes: { value: "" } }), ...options);
  at(id).value = names.includes(chosen) ? chosen : "";
}

// -- explain ----------------------------------------------------------------------------------------------------------

function bodyOf(text) {
  if (text.trimStart().startsWith("{")) return text;
  return JSON.stringify({ model: "auto", messages: [{ role: "user", content: text }] });
}

async function explain() {
  const mine = ++explaining;
  const chosen = ["task", "account"].filter((id) => at(id).value).map((id) => [id, at(id).value]);
  const budget = at("budget").value.trim();
  let found;
  try {
    const answer = await ask(`/admin/explain?${new URLSearchParams(chosen)}`, {
      method: "POST",
      headers: { "content-type": "application/json", ...(budget ? { "x-farthing-budget-usd": budget } : {}) },
      body: bodyOf(at("body").value),
    });
    found = explanation(answer);
  } catch (error) {
    found = [element("p", { text: error.message, className: "bad" })];
  }
  if (mine === explaining) at("explained").replaceChildren(...found);
}

function explanation(answer) {
  const goes = answer.model
    ? `It would go to ${answer.model} by rule ${answer.rule} of task ${answer.task}: about ${usd(answer.estimate_usd)}, never more than ${usd(answer.ceiling_usd)}.`
    : `It would be refused: ${answer.refusal.message}`;
  const budget = answer.budget_usd === null ? "No budget limits a single request." : `It may cost ${usd(answer.budget_usd)}: ${answer.budget}.`;
  const rules = answer.rules.map((rule) =>
    element("tr", { children: [cell(rule.name), cell(rule.held ? "holds" : "does not hold", rule.held ? "good" : ""), cell(rule.why)] }),
  );
  const candidates = answer.candidates.map((candidate) =>
    element("tr", {
      children: [
        cell(candidate.model),
        cell(candidate.fits ? "fits" : "does not fit", candidate.fits ? "good" : "bad"),
        cell(usd(candidate.estimate_usd), "number"),
        cell(usd(candidate.ceiling_usd), "number"),
        cell(candidate.reason),
      ],
    }),
  );
  return [
    element("p", { text: goes, className: answer.model ? "" : "bad" }),
    element("p", { text: `${budget} ${answer.facts.input_tokens.toLocaleString("en")} input tokens.`, className: "hint" }),
    table("Rules, in order", ["Rule", "", "Why"], rules),
    table("Models looked at", ["Model", "", "Estimate", "At most", "Why"], candidates, ["Estimate", "At most"]),
  ];
}

function table(title, names, rows, numbers = []) {
  const heads = names.map((name) => element("th", { text: name, className: numbers.includes(name) ? "number" : "", attributes: { scope: "col" } }));
  const head = element("tr", { children: heads });
  const children = [element("thead", { children: [head] }), element("tbody", { children: rows })];
  const caption = element("h3", { text: title });
  return element("div", { className: "scroll", attributes: { tabindex: "0" }, children: [caption, element("table", { children })] });
}

// -- the turn ---------------------------------------------------------------------------------------------------------

async function look() {
  clearTimeout(timer);
  const period = PERIODS[at("period").value];
  const all = turn++ % SLOWER === 0;
  try {
    if (all) showPolicies(await ask("/admin/policies"));
    const [requests, budgets, spend] = await Promise.all([
      ask("/admin/requests?limit=50"),
      ask("/admin/budgets"),
      all || period.by === "minute" ? ask(`/admin/spend?since=${period.since}&by=task,model,${period.by}`) : null,
    ]);
    enter(true);
    showRequests(requests.requests);
    showBudgets(budgets.budgets);
    if (spend) showSpend(spend, period);
    say("live");
  } catch (error) {
    if (asking.signal.aborted) return;
    if (error instanceof Refused && (error.status === 401 || error.status === 403)) return shut(error);
    say(error instanceof Refused ? error.message : "The proxy does not answer; trying again.");
    turn = 0;
  }
  if (!document.hidden) timer = setTimeout(look, EVERY_MS);
}

function lookAnew() {
  asking.abort();
  asking = new AbortController();
  turn = 0;
  look();
}

function say(text) {
  if (at("status").textContent !== text) at("status").textContent = text;
}

function enter(open) {
  const entered = open && at("figures").hidden && !at("enter").hidden;
  at("figures").hidden = !open;
  at("tools").hidden = !open;
  at("enter").hidden = open;
  if (entered) at("main").focus({ preventScroll: true });
}

function shut(error) {
  const wasTold = sessionStorage.getItem(KEY) !== null;
  sessionStorage.removeItem(KEY);
  enter(false);
  at("refused").textContent = wasTold ? error.message : "";
  say("locked");
  at("key").focus();
}

at("enter").addEventListener("submit", (event) => {
  event.preventDefault();
  sessionStorage.setItem(KEY, at("key").value);
  at("key").value = "";
  lookAnew();
});
for (const button of document.querySelectorAll(".more")) {
  button.addEventListener("click", () => {
    const id = button.getAttribute("aria-controls");
    at(id).classList.toggle("few");
    fold(id);
  });
}
at("leave").addEventListener("click", () => {
  sessionStorage.removeItem(KEY);
  location.reload();
});
at("period").addEventListener("change", lookAnew);
at("explain").addEventListener("submit", (event) => {
  event.preventDefault();
  explain();
});
at("body").addEventListener("keydown", (event) => {
  if (event.key === "Enter" && (event.ctrlKey || event.metaKey)) at("explain").requestSubmit();
});
document.addEventListener("visibilitychange", () => document.hidden || at("figures").hidden || lookAnew());
matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => charts.repaint());
if (sessionStorage.getItem(KEY)) look();
else if ("shut" in document.documentElement.dataset) say("shut");
else {
  say("locked");
  enter(false);
  at("key").focus();
}
