"use strict";
const text = document.getElementById("text");
const status = document.getElementById("status");
const found = document.getElementById("found");
const steps = Array.from(document.querySelectorAll("article"));
const filter = () => {
  const wanted = text.value.toLowerCase();
  let count = 0;
  for (const step of steps) {
    const fits = (status.value === "" || step.classList.contains(status.value)) &&
      (wanted === "" || step.textContent.toLowerCase().includes(wanted));
    step.hidden = !fits;
    count += fits ? 1 : 0;
  }
  found.textContent = count + " of " + steps.length;
};
text.addEventListener("input", filter);
status.addEventListener("change", filter);
document.getElementById("fold").addEventListener("change", (event) => {
  for (const one of document.querySelectorAll("details")) one.open = event.target.checked;
});
document.querySelector("form").addEventListener("submit", (event) => event.preventDefault());
document.querySelector("form").hidden = false;
filter();
