// Answers token by token: built from the JSON beside each answer when its item is first opened.
const pick = document.getElementById("colour"), says = document.getElementById("says");
const hues = ["#0072b2", "#e69f00", "#009e73", "#cc79a7", "#56b4e9", "#b8a800", "#7b61c4"];
const words = { confidence: "1 - p of the token", entropy: "entropy of the law", weight: "log weight that the token added",
  who: "who proposed the token", none: "" };
const names = []; // all proposers of the page, for one hue each
function hue(who) { if (!names.includes(who)) names.push(who); return hues[names.indexOf(who) % hues.length]; }
function element(kind, classes, text) {
  const made = document.createElement(kind);
  if (classes) made.className = classes;
  if (text !== undefined) made.textContent = text;
  return made;
}
function share(p) { return (100 * p).toFixed(1) + " %"; }
function card(token, by, rules) {
  const [text, p, entropy, weight, who, others, lost] = token, made = element("span", "card");
  made.setAttribute("role", "tooltip");
  made.append(element("b", "", JSON.stringify(text)), by[who] ? (rules.includes(who) ? ", taken by the rule: " + by[who] : ", guessed by " + by[who] + ", accepted") : "");
  const facts = element("span", "facts");
  for (const [name, value] of [["p", p], ["entropy", entropy], ["log weight", weight]])
    if (value !== null && !(name === "log weight" && value === 0)) {
      const one = element("span"); one.append(element("i", "", name), " " + value); facts.append(one);
    }
  made.append(facts);
  if (lost.length) {
    const line = element("span", "lost", "refused: ");
    lost.forEach(([said, source], at) => {
      line.append(at ? ", " : "", element("s", "", JSON.stringify(said)), by[source] ? " (" + by[source] + ")" : "");
    });
    made.append(line);
  }
  for (const [said, chance] of others) {
    const line = element("span", "other"); line.style.setProperty("--w", Math.round(100 * chance) + "%");
    line.append(element("code", "", JSON.stringify(said)), element("em", "", share(chance))); made.append(line);
  }
  return made;
}
function tell(item) {
  item.querySelectorAll("script.story").forEach(source => {
    const story = JSON.parse(source.textContent), line = element("div", "tokens");
    for (const token of story.tokens) {
      const [text, p, entropy, weight, who, , lost, special] = token;
      const made = element("span", "tok" + (special ? " special" : "") + (story.words[who] && !story.rules.includes(who) ? " guessed" : "") +
        (lost.length ? " fought" : ""), text);
      made.tabIndex = 0;
      Object.assign(made.dataset, { p: p ?? "", entropy: entropy ?? "", weight: weight ?? "", who: story.words[who] });
      made.append(card(token, story.words, story.rules)); line.append(made);
    }
    if (story.cut) line.append(element("i", "", " and " + story.cut + " tokens more"));
    source.parentElement.querySelector("pre").replaceWith(line); source.remove();
  });
  paint(item);
}
function paint(part) {
  const name = pick.value, tokens = [...part.querySelectorAll(".tok")];
  const most = Math.max(1e-9, ...tokens.map(t => Math.abs(t.dataset[name === "confidence" ? "p" : name]) || 0));
  for (const t of tokens) {
    const told = t.dataset, v = name === "confidence" ? (told.p === "" ? 0 : 1 - told.p) :
      name === "who" ? (told.who ? 0.55 : 0) : name === "none" ? 0 : Math.abs(told[name]) / most;
    t.style.setProperty("--v", v.toFixed(3));
    if (name === "who" && told.who) t.style.setProperty("--hot", hue(told.who)); else t.style.removeProperty("--hot");
  }
}
function repaint() {
  document.querySelectorAll("details.item").forEach(paint);
  says.textContent = words[pick.value];
  if (pick.value === "who") for (const who of names) {
    const mark = element("span", "mark", who); mark.style.setProperty("--hot", hue(who)); says.append(" ", mark);
  }
}
document.querySelectorAll("details.item").forEach(item => {
  if (item.open) tell(item); else item.addEventListener("toggle", () => item.open && tell(item), { once: true });
});
pick.addEventListener("change", repaint); repaint();
