"use strict";

const WORDS = {
  en: {
    fill: "Fill gaps", judge: "Replaced tokens", classify: "Classify", compare: "Similarity", run: "Run",
    fill_label: "A text with one [MASK] or several", fill_button: "Fill the gaps", insert: "Insert [MASK]",
    judge_label: "A text, perhaps with a word that does not belong", judge_button: "Judge the tokens",
    judge_scale: "How likely the model takes a token for replaced:",
    classify_label: "A text", pair_label: "The second text, if the model is for pairs", classify_button: "Classify",
    compare_label: "Two to eight sentences, one a line", compare_button: "Compare",
    compare_note: "The cosine of the mean last hidden states over all tokens. Without fine-tuning for it, such values " +
      "are high for all sentences: compare them with one another.",
    gap: "Gap", vocabulary: "{0} tokens", score: "Score", sentence: "Sentence", cut: "The model reads {0} tokens; the rest of the text was cut off.",
    step: "Step", speed: "Tokens per second", left: "Time left, about", since: "Last epoch", ago: "{0} ago",
    learning_rate: "Learning rate", waiting: "Waiting for data", padding: "Padding", finished: "Finished",
    no_epoch: "No epoch has ended yet.", of: "{0} of {1}", previews: "Previews", metrics: "Metrics", settings: "Settings",
    recipe: "Broad, pale lines: the recipe {0}",
    offline: "The server does not answer. Start it again: keras-pretrain serve",
    empty: "Write something first.", no_mask: "There is no gap. Write [MASK] where the model shall fill in a word.",
    too_long: "The text is too long: at most {0} characters.", count: "Write two to eight sentences, one a line.",
    gap_cut: "The gap is beyond the part that the model reads. Shorten the text.",
  },
  ko: {
    fill: "빈칸 채우기", judge: "바뀐 토큰 찾기", classify: "분류", compare: "유사도", run: "학습",
    fill_label: "[MASK]가 하나 이상 있는 글", fill_button: "빈칸 채우기", insert: "[MASK] 넣기",
    judge_label: "글 (어울리지 않는 단어를 넣어 보세요)", judge_button: "토큰 판별",
    judge_scale: "모델이 바뀐 토큰이라고 보는 확률:",
    classify_label: "글", pair_label: "두 번째 글 (문장 쌍 모델일 때)", classify_button: "분류",
    compare_label: "문장 2~8개, 한 줄에 하나씩", compare_button: "비교",
    compare_note: "모든 토큰의 마지막 은닉 상태를 평균한 벡터의 코사인 유사도입니다. 유사도용으로 파인튜닝하지 않은 모델은 " +
      "모든 문장에서 값이 높으므로, 서로 비교해서 보십시오.",
    gap: "빈칸", vocabulary: "토큰 {0}개", score: "점수", sentence: "문장", cut: "모델은 토큰 {0}개까지 읽습니다. 나머지는 잘렸습니다.",
    step: "스텝", speed: "초당 토큰", left: "남은 시간 (약)", since: "마지막 에폭", ago: "{0} 전",
    learning_rate: "학습률", waiting: "데이터 대기", padding: "패딩", finished: "완료",
    no_epoch: "아직 끝난 에폭이 없습니다.", of: "{0} / {1}", previews: "미리 보기", metrics: "지표", settings: "설정",
    recipe: "굵고 옅은 선: 레시피 {0}",
    offline: "서버가 응답하지 않습니다. keras-pretrain serve를 다시 실행하십시오.",
    empty: "먼저 글을 입력하십시오.", no_mask: "빈칸이 없습니다. 모델이 채울 자리에 [MASK]라고 쓰십시오.",
    too_long: "글이 너무 깁니다. {0}자까지 쓸 수 있습니다.", count: "문장을 2~8개, 한 줄에 하나씩 쓰십시오.",
    gap_cut: "빈칸이 모델이 읽는 범위 밖에 있습니다. 글을 줄이십시오.",
    refused: "서버가 요청을 거부했습니다.", failed: "계산에 실패했습니다. 원인은 터미널에 있습니다.",
  },
};
const EXAMPLES = {
  en: {
    fill: "The capital of Korea is [MASK].", judge: "The cat sat on the democracy.", classify: "I liked this film a lot.",
    compare: "I liked this film.\nThe movie was great.\nIt rains tomorrow.",
  },
  ko: {
    fill: "이 영화의 [MASK]이 정말 좋았다.", judge: "고양이가 민주주의 위에서 잠을 잔다.", classify: "이 영화 정말 재미있었다.",
    compare: "이 영화 정말 좋았다.\n재미있게 본 작품이다.\n내일은 비가 온다.",
  },
};
const LANGUAGE = navigator.language.toLowerCase().startsWith("ko") ? "ko" : "en";
const POLL = 2000; // milliseconds
const $ = (selector, within = document) => within.querySelector(selector);
let about, drawn;

function say(key, ...values) {
  return values.reduce((text, value, i) => text.replace(`{${i}}`, value), WORDS[LANGUAGE][key] ?? WORDS.en[key] ?? key);
}

/** An element with attributes, and strings or elements inside; `style` has CSS variables. Nothing is read as HTML. */
function make(name, attributes = {}, ...inside) {
  const element = /^(svg|g|line|text|polyline|circle|title)$/.test(name)
    ? document.createElementNS("http://www.w3.org/2000/svg", name) : document.createElement(name);
  for (const [key, value] of Object.entries(attributes)) {
    if (key.startsWith("--") || key === "width%") element.style.setProperty(key === "width%" ? "width" : key, value);
    else element.setAttribute(key, value);
  }
  element.append(...inside);
  return element;
}

const percent = (value) => value === null ? "–" : (100 * value).toFixed(1) + "%";

function number(value) {
  if (typeof value !== "number") return "–";
  if (Number.isInteger(value)) return value.toLocaleString(LANGUAGE);
  return Math.abs(value) >= 1000 ? Math.round(value).toLocaleString(LANGUAGE)
    : Math.abs(value) >= 0.001 ? String(+value.toPrecision(4)) : value.toExponential(2);
}

function duration(seconds) {
  const whole = Math.round(seconds), two = (value) => String(value).padStart(2, "0");
  const [hours, minutes] = [Math.floor(whole / 3600), Math.floor(whole / 60) % 60];
  return hours ? `${hours}:${two(minutes)}:${two(whole % 60)}` : `${minutes}:${two(whole % 60)}`;
}

function bars(entries) {
  return make("div", { class: "bars" }, ...entries.flatMap(([name, value], i) => [
    make("b", i === 0 ? { class: "best" } : {}, name),
    make("i", { "width%": `${100 * (value ?? 0)}%` }),
    make("span", {}, percent(value)),
  ]));
}

const RESULTS = {
  fill: ({ gaps }) => gaps.flatMap((gap, i) => [
    make("h2", {}, gaps.length > 1 ? `${say("gap")} ${i + 1}` : say("gap")),
    bars(gap.map((each) => [each.word, each.probability])),
  ]),
  judge: ({ tokens }) => [make("div", { class: "tokens" }, ...tokens.map(({ token, probability }) => make(
    "span", {
      class: (token.startsWith("##") ? "piece" : "") + (probability > 0.5 ? " likely" : ""), "--p": probability ?? 0,
    }, token.replace(/^##(?=.)/, ""), make("small", {}, `${Math.round(100 * (probability ?? 0))}%`))))],
  classify: ({ labels, score }) => labels
    ? [make("h2", {}, labels[0].label), bars(labels.map((each) => [each.label, each.probability]))]
    : [make("p", { class: "score" }, `${say("score")}: ${number(score)}`)],
  compare: ({ similarities }, { texts }) => [make("table", { class: "matrix" },
    make("thead", {}, make("tr", {}, make("th"), ...texts.map((_, i) => make("th", {}, String(i + 1))))),
    make("tbody", {}, ...similarities.map((row, i) => make("tr", {}, make("th", {}, `${i + 1}. ${texts[i]}`),
      ...row.map((value) => make("td", { "--p": Math.max(0, value ?? 0) }, value === null ? "–" : value.toFixed(2)))))))],
};

function bodyOf(task) {
  const text = $(`#${task}-text`).value;
  if (task === "compare") return { texts: text.split("\n").filter((line) => line.trim()) };
  const pair = task === "classify" ? $("#classify-pair").value : "";
  return pair.trim() ? { text, pair } : { text };
}

/** What the server would refuse, found without it; the code of the message. */
function problemOf(task, body) {
  const texts = body.texts ?? [body.text, body.pair ?? ""];
  if (task === "compare" && (texts.length < 2 || texts.length > about.max_sentences)) return texts.length ? "count" : "empty";
  if (!texts[0].trim()) return "empty";
  if ([...texts.join("")].length > about.max_characters) return "too_long";
  if (task === "fill" && !texts[0].includes("[MASK]")) return "no_mask";
  return null;
}

async function ask(task, section) {
  const error = $(".error", section), result = $(".result", section), button = $("[type=submit]", section);
  const body = bodyOf(task);
  const fail = (code, message) => {
    error.textContent = code in WORDS.en || code in WORDS[LANGUAGE] ? say(code, about.max_characters) : message;
    result.replaceChildren();
    $("textarea", section).focus();
  };
  const problem = problemOf(task, body);
  if (problem) return fail(problem);
  error.textContent = "";
  button.disabled = true;
  try {
    const response = await fetch(`/api/${task}`, {
      method: "POST", headers: { "Content-Type": "application/json" }, body: JSON.stringify(body),
    });
    const answer = await response.json();
    if (!response.ok) return fail(answer.code, answer.error);
    const cut = answer.cut ? [make("p", { class: "note" }, say("cut", number(answer.cut)))] : [];
    result.replaceChildren(...RESULTS[task](answer, body), ...cut);
  } catch {
    fail("offline");
  } finally {
    button.disabled = false;
  }
}

function curves({ title, series }, reference) {
  const behind = series.filter(({ name }) => reference[name]).map(({ name }) => ({ name, points: reference[name] }));
  const all = [...series, ...behind].flatMap((each) => each.points), [width, height, side, foot] = [320, 170, 48, 18];
  const [low, high] = [Math.min(...all.map((p) => p[1])), Math.max(...all.map((p) => p[1]))];
  const last = Math.max(...all.map((p) => p[0])), span = high - low || Math.abs(high) || 1;
  const x = (step) => side + (width - side - 8) * step / (last || 1);
  const y = (value) => 8 + (height - foot - 14) * (1 - (value - low) / span);
  const svg = make("svg", { viewBox: `0 0 ${width} ${height}`, role: "img", "aria-label": title });
  for (const share of [0, 0.5, 1]) {
    const value = low + share * span;
    svg.append(make("line", { x1: side, x2: width - 8, y1: y(value), y2: y(value) }),
      make("text", { x: side - 4, y: y(value) + 3, "text-anchor": "end" }, number(value)),
      make("text", { x: x(share * last), y: height - 4, "text-anchor": share ? "end" : "start" }, number(Math.round(share * last))));
  }
  const line = (points) => make("polyline", { points: points.map((p) => `${x(p[0])},${y(p[1])}`).join(" ") });
  const legend = new Map(); // of a metric, in training and in validation
  for (const { name, points } of series) {
    const isValidation = name.startsWith("val_"), metric = name.replace(/^val_/, "");
    if (!legend.has(metric)) legend.set(metric, make("span", { class: `c${legend.size % 8}` }, metric));
    legend.get(metric).append(` ${isValidation ? "╌" : "─"} ${number(points.at(-1)[1])}`);
    const expected = behind.find((each) => each.name === name);
    if (expected) svg.append(make("g", { class: `${legend.get(metric).className} reference` }, line(expected.points)));
    svg.append(make("g", { class: `${legend.get(metric).className}${isValidation ? " validation" : ""}` }, line(points),
      ...(points.length < 30 ? points.map((p) => make("circle", { cx: x(p[0]), cy: y(p[1]), r: 2.2 },
        make("title", {}, `${number(p[0])}: ${number(p[1])}`))) : [])));
  }
  return make("figure", {}, make("figcaption", {}, make("strong", {}, title), ...legend.values()), svg);
}

function showStatus({ step, steps, speed, seconds_left, seconds_since }) {
  const box = (name, ...inside) => make("div", {}, make("small", {}, say(name)), ...inside);
  const boxes = [];
  if (steps) boxes.push(box("step", say("of", number(step), number(steps)), make("progress", { max: steps, value: step })));
  else if (step) boxes.push(box("step", number(step)));
  if (steps && step >= steps) boxes.push(box("left", say("finished")));
  else if (seconds_left !== null) boxes.push(box("left", duration(seconds_left)));
  if (speed.tokens_per_second) boxes.push(box("speed", number(Math.round(speed.tokens_per_second))));
  for (const name of ["padding", "waiting"]) if (name in speed) boxes.push(box(name, percent(speed[name])));
  if (seconds_since !== null) boxes.push(box("since", say("ago", duration(seconds_since))));
  $("#status").replaceChildren(...boxes);
}

const table = (values) => Object.entries(values).map(([name, value]) => make("tr", {}, make("th", {}, name),
  make("td", {}, typeof value === "number" ? number(value) : Array.isArray(value) ? value.join(" ") : String(value))));

function showRun(report) {
  showStatus(report);
  const key = JSON.stringify({ ...report, seconds_since: 0, seconds_left: 0 });
  if (key === drawn) return; // so that a selection of text stays
  drawn = key;
  const { panels, recipe, reference, previews, metrics, settings, steps } = report;
  const isWaiting = !panels.length && steps;
  $("#panels").replaceChildren(...(isWaiting ? [make("p", { class: "note" }, say("no_epoch"))]
    : panels.map((panel) => curves(panel, reference))));
  $("#recipe").textContent = Object.keys(reference).length ? say("recipe", recipe) : "";
  $("#previews").replaceChildren(...(previews.length ? [make("h2", {}, say("previews"))] : []), ...previews.map(
    ({ step, text }) => make("pre", {}, `${say("step")} ${number(step)}\n${text}`)));
  $("#metrics").replaceChildren(...(Object.keys(metrics).length
    ? [make("h2", {}, say("metrics")), make("table", {}, ...table(metrics))] : []));
  $("#settings").hidden = !Object.keys(settings).length;
  $("#settings table").replaceChildren(...table(settings));
}

async function poll() {
  try {
    const response = await fetch("/api/run");
    if (response.ok) showRun(await response.json());
    $("#offline").hidden = true;
  } catch {
    $("#offline").hidden = false;
  }
  setTimeout(poll, POLL);
}

function choose(task) {
  for (const each of about.tasks) $(`#${each}`).hidden = each !== task;
  for (const tab of document.querySelectorAll("[role=tab]")) tab.setAttribute("aria-selected", tab.dataset.task === task);
}

function insertMask() {
  const area = $("#fill-text");
  area.setRangeText("[MASK]", area.selectionStart, area.selectionEnd, "end");
  area.focus();
}

async function start() {
  document.documentElement.lang = LANGUAGE;
  for (const element of document.querySelectorAll("[data-t]")) element.textContent = say(element.dataset.t);
  about = await (await fetch("/api/about")).json();
  const name = about.folder.split("/").pop(), { model_type, num_hidden_layers, hidden_size, vocab_size } = about.model;
  document.title = `${name} · keras_pretrain`;
  $("#name").textContent = name;
  $("#facts").textContent = [
    about.folder,
    ...(model_type ? [`${model_type.toUpperCase()} ${num_hidden_layers} × ${hidden_size}`, say("vocabulary", number(vocab_size))] : []),
  ].join(" · ");
  $("#pair").hidden = about.takes_pairs === false;
  for (const task of about.tasks) {
    const tab = make("button", { role: "tab", type: "button", "data-task": task, "aria-controls": task }, say(task));
    tab.addEventListener("click", () => { location.hash = task; });
    $("nav").append(tab);
    const section = $(`#${task}`), form = $("form", section);
    if (!form) continue;
    $("textarea", section).value = EXAMPLES[about.knows_hangul ? "ko" : "en"][task];
    form.addEventListener("submit", (event) => { event.preventDefault(); ask(task, section); });
    form.addEventListener("keydown", (event) => {
      if (event.key === "Enter" && (event.ctrlKey || event.metaKey)) form.requestSubmit();
    });
  }
  $("#insert").addEventListener("click", insertMask);
  const fromAddress = () => choose(about.tasks.includes(location.hash.slice(1)) ? location.hash.slice(1) : about.tasks[0]);
  addEventListener("hashchange", fromAddress);
  fromAddress();
  if (about.tasks.includes("run")) poll();
}

start();
