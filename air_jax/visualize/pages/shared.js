"use strict";
const report = JSON.parse(document.getElementById("data").textContent);
const make = (tag, parent, text, kind) => {
  const element = document.createElement(tag);
  if (text !== undefined) element.textContent = text;
  if (kind) element.className = kind;
  parent.append(element);
  return element;
};
document.title = report.title;
document.getElementById("title").textContent = report.title;
for (const text of report.warnings) make("p", document.getElementById("warnings"), text, "warning");

function showTables() {
  for (const { name, columns, rows, folded } of report.tables) {
    const card = make(folded ? "details" : "section", document.getElementById("tables"), undefined, "card");
    make(folded ? "summary" : "h2", card, name);
    const table = make("table", make("div", card, undefined, "scroll"));
    if (columns.length) {
      const row = make("tr", make("thead", table));
      for (const title of columns) make("th", row, title).scope = "col";
    }
    const body = make("tbody", table);
    for (const [first, ...others] of rows) {
      const row = make("tr", body);
      make("th", row, first).scope = "row";
      for (const value of others) make("td", row, value, columns.length ? "number" : "");
    }
  }
}
