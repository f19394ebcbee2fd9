// The operator page: live calls, their transcript and timings. Plain DOM and server-sent events, no build step.

const $ = (id) => document.getElementById(id);
const LIVE = new Set(["created", "authorising", "dialing", "ringing", "in_progress", "ending"]);
const token = new URLSearchParams(location.hash.slice(1)).get("token") ?? sessionStorage.getItem("token") ?? "";
if (token) sessionStorage.setItem("token", token);
let chosen = null; // the call shown; null follows the newest

function proof() { // the operator's token, or the cookies of somebody who signed in on the console and is an operator
  if (token) return { Authorization: `Bearer ${token}` };
  const csrf = document.cookie.split("; ").find((cookie) => cookie.startsWith("ringdown_csrf="));
  return csrf ? { "X-CSRF": decodeURIComponent(csrf.slice("ringdown_csrf=".length)) } : {};
}

async function ask(path, options = {}) {
  const headers = proof();
  const answer = await fetch(path, { ...options, headers });
  if (!answer.ok) throw new Error(`${path}: ${answer.status}`);
  return answer.status === 204 ? null : answer.json();
}

async function fetched(path) { // an <audio> cannot send the token
  const answer = await fetch(path, { headers: { Authorization: `Bearer ${token}` } });
  return URL.createObjectURL(await answer.blob());
}

function element(tag, text, className) {
  const made = document.createElement(tag);
  if (text !== undefined) made.textContent = text;
  if (className) made.className = className;
  return made;
}

const clock = (iso) => (iso ? new Date(iso).toLocaleTimeString() : "");

function length(call) {
  if (!call.answered_at) return "";
  const until = call.ended_at ? new Date(call.ended_at) : new Date();
  const seconds = Math.max(0, Math.round((until - new Date(call.answered_at)) / 1000));
  return `${Math.floor(seconds / 60)}:${String(seconds % 60).padStart(2, "0")}`;
}

async function refreshList() {
  const { calls } = await ask("v1/operator/calls");
  $("none").hidden = calls.length > 0;
  const shown = chosen ?? calls[0]?.id;
  $("calls").replaceChildren(...calls.map((call) => {
    const row = element("button");
    row.type = "button";
    row.setAttribute("aria-current", String(call.id === shown));
    row.append(element("span", `${call.persona} · ${call.direction === "inbound" ? call.from_number : call.to_number}`));
    const state = element("small");
    state.append(element("span", call.state.replace("_", " "), `state ${call.state}`), ` ${clock(call.created_at)} ${length(call)}`);
    row.append(state);
    row.onclick = () => { chosen = call.id; refresh(); };
    const item = element("li");
    item.append(row);
    return item;
  }));
  return shown;
}

function bubble(turn) {
  const item = element("li", undefined, turn.who);
  const words = element("p");
  if (turn.who === "bot" && turn.text.startsWith(turn.spoken)) {
    words.append(turn.spoken, element("span", turn.text.slice(turn.spoken.length), "unsaid"));
  } else {
    words.textContent = turn.who === "bot" ? turn.spoken || turn.text : turn.text;
  }
  item.append(words);
  const t = turn.timings;
  const notes = [];
  if (t.voice_to_voice_ms !== undefined) notes.push(`answered in ${Math.round(t.voice_to_voice_ms)} ms`);
  if (t.decision_ms !== undefined) notes.push(`turn decided in ${Math.round(t.decision_ms)} ms`);
  item.append(element("span", [clock(turn.at), ...notes].join(" · "), "when"));
  return item;
}

function drops(events) {
  const moved = (event) => events.some((other) => other.kind === "released" && other.data.moved && other.epoch === event.epoch - 1);
  return events.filter((event) => event.kind === "claimed" && event.epoch > 1).map((event) => {
    const what = moved(event) ? "The call was moved to" : "The process died; the call goes on in";
    return { at: event.at, item: element("li", `${what} ${event.data.host ?? "another host"} (epoch ${event.epoch}).`, "bridge") };
  });
}

async function refreshCall(id) {
  const { call, turns, events } = await ask(`v1/operator/calls/${id}`);
  $("call").hidden = false;
  $("title").textContent = `${call.persona}, ${call.direction}`;
  $("facts").textContent = [call.state.replace("_", " "), call.ended_reason?.replaceAll("_", " "), length(call), call.host && `host ${call.host}`, `epoch ${call.epoch}`].filter(Boolean).join(" · ");
  $("hangup").hidden = !LIVE.has(call.state);
  $("hangup").onclick = () => ask(`v1/operator/calls/${id}`, { method: "DELETE" }).catch(report);
  const recording = $("recording");
  const source = `v1/operator/calls/${id}/recording`;
  recording.hidden = !call.recording || LIVE.has(call.state);
  if (!recording.hidden && recording.dataset.source !== source) {
    recording.dataset.source = source;
    recording.src = token ? await fetched(source) : source;
  }
  const lines = [...turns.map((turn) => ({ at: turn.at, item: bubble(turn) })), ...drops(events)];
  lines.sort((a, b) => new Date(a.at) - new Date(b.at));
  $("turns").replaceChildren(...lines.map((line) => line.item));
  $("events").replaceChildren(...events.map((event) => {
    const item = element("li");
    item.append(element("span", clock(event.at)), element("span", event.kind), element("span", Object.keys(event.data).length ? JSON.stringify(event.data) : ""));
    return item;
  }));
}

function report(error) { $("link").textContent = error.message; $("link").className = ""; }

let due = null;
function refresh() { // at most four times a second, however many events arrive
  due ??= setTimeout(async () => {
    due = null;
    try {
      const id = await refreshList();
      if (id) await refreshCall(id);
    } catch (error) { report(error); }
  }, 250);
}

// Server-sent events, read with fetch: EventSource cannot send the operator token, and a token has no place in an address.
async function follow() {
  for (;;) {
    try {
      const answer = await fetch("v1/operator/events", { headers: proof() });
      if (!answer.ok) throw new Error(`v1/operator/events: ${answer.status}`);
      $("link").textContent = "live";
      $("link").className = "live";
      refresh();
      for (const reader = answer.body.getReader(); ;) {
        const { done, value } = await reader.read();
        if (done) break;
        if (new TextDecoder().decode(value).includes("event: call")) refresh();
      }
    } catch (error) { report(error); }
    $("link").textContent ||= "reconnecting…";
    $("link").className = "";
    await new Promise((resolve) => setTimeout(resolve, 1000));
  }
}
follow();
setInterval(refresh, 5000);

ask("v1/operator/parts").then(({ parts }) => {
  $("parts").replaceChildren(...parts.flatMap((part) => [
    element("span", `${part.name}: ${part.engine}`, part.stand_in ? "stand-in" : ""), " ",
  ]));
}).catch(report);
