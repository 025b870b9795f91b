"use strict";
const form = document.getElementById("filter");
const text = document.getElementById("text");
const notable = document.getElementById("notable");
const articles = Array.from(document.querySelectorAll("article"));
const apply = () => {
  const wanted = text.value.toLowerCase();
  for (const article of articles) {
    const found = article.textContent.toLowerCase().includes(wanted);
    article.hidden = !found || (notable.checked && !article.classList.contains("notable"));
  }
};
form.hidden = false;
form.addEventListener("input", apply);
form.addEventListener("submit", (event) => event.preventDefault());
