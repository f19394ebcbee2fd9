// Keeps the console's own files, so that the installed app opens at once. It never touches the API: what a person sees
// of calls and money always comes from the server. The server writes the version and the files into the next line.
const SHELL = {"version":"","files":[]};
const CACHE = `console-${SHELL.version}`;

self.addEventListener("install", (event) => {
  event.waitUntil(caches.open(CACHE).then((cache) => cache.addAll(SHELL.files)).then(() => self.skipWaiting()));
});

self.addEventListener("activate", (event) => {
  event.waitUntil(
    caches.keys()
      .then((names) => Promise.all(names.filter((name) => name !== CACHE).map((name) => caches.delete(name))))
      .then(() => self.clients.claim()),
  );
});

self.addEventListener("fetch", (event) => {
  const { pathname, origin } = new URL(event.request.url);
  if (event.request.method !== "GET" || origin !== self.location.origin || !SHELL.files.includes(pathname)) return;
  event.respondWith(
    caches.open(CACHE).then((cache) => cache.match(pathname)).then((found) => found ?? fetch(event.request)),
  );
});
