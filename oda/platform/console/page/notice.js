// Says in passing what was done or why it was not.

import { setText } from "./dom.js";

const SHOWN_MS = 4000;
let timer = null;

export function say(text, isProblem = false) {
  const notice = document.getElementById("notice");
  setText(notice, text);
  notice.classList.toggle("problem", isProblem);
  notice.classList.add("shown");
  clearTimeout(timer);
  timer = setTimeout(() => notice.classList.remove("shown"), SHOWN_MS);
}

/** Do something that may fail, and say so when it does; true when it went well. */
export async function attempt(what, act) {
  try {
    await act();
    return true;
  } catch (error) {
    say(`${what}: ${error.message}`, true);
    return false;
  }
}
