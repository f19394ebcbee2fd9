// The API's reference, drawn from openapi.json. Plain DOM, no build step, nothing from elsewhere.

const $ = (id) => document.getElementById(id);
const METHODS = ["get", "post", "put", "patch", "delete"];

function element(tag, text, className) {
  const made = document.createElement(tag);
  if (text !== undefined) made.textContent = text;
  if (className) made.className = className;
  return made;
}

function follow(schema, schemas) {
  return schema?.$ref ? schemas[schema.$ref.split("/").pop()] : schema ?? {};
}

function kind(schema, schemas) { // a type in a few words
  if (!schema) return "";
  if (schema.$ref) return schema.$ref.split("/").pop();
  if (schema.anyOf) return schema.anyOf.map((one) => kind(one, schemas)).join(" or ");
  if (schema.enum) return schema.enum.map((one) => JSON.stringify(one)).join(", ");
  if (schema.type === "array") return `list of ${kind(schema.items, schemas) || "anything"}`;
  const rules = [];
  if (schema.format) rules.push(schema.format);
  if (schema.minimum !== undefined) rules.push(`from ${schema.minimum}`);
  if (schema.maximum !== undefined) rules.push(`to ${schema.maximum}`);
  if (schema.minLength !== undefined) rules.push(`${schema.minLength} or more characters`);
  if (schema.maxLength !== undefined) rules.push(`at most ${schema.maxLength} characters`);
  if (schema.pattern) rules.push(schema.pattern);
  if (schema.default !== undefined && schema.default !== null) rules.push(`else ${JSON.stringify(schema.default)}`);
  return [schema.type ?? "anything", ...rules].join(", ");
}

function table(head, rows) {
  const made = element("table");
  const top = element("tr");
  top.append(...head.map((text) => element("th", text)));
  made.append(top, ...rows.map((cells) => {
    const row = element("tr");
    row.append(...cells.map((cell) => {
      const box = element("td");
      box.append(cell);
      return box;
    }));
    return row;
  }));
  return made;
}

function fields(schema, schemas) {
  const whole = follow(schema, schemas);
  if (!whole.properties) return element("p", kind(schema, schemas), "soft");
  const needed = new Set(whole.required ?? []);
  return table(["field", "type", ""], Object.entries(whole.properties).map(([name, field]) =>
    [element("code", name), kind(field, schemas), field.description ?? (needed.has(name) ? "required" : "")]));
}

function who(operation) {
  const first = operation.security?.[0];
  if (!first) return "for everybody";
  return "operator" in first ? "for operators" : "for signed-in people";
}

function drawn(path, method, operation, schemas) {
  const section = element("section");
  section.id = operation.operationId;
  const title = element("h3");
  title.append(element("span", method.toUpperCase(), "method"), element("code", path));
  section.append(title, element("p", operation.summary));
  if (operation.description) section.append(element("p", operation.description));
  section.append(element("p", who(operation), "soft"));
  if (operation.parameters.length) {
    section.append(element("h4", "Parameters"), table(["name", "in", "type", ""], operation.parameters.map((one) =>
      [element("code", one.name), one.in, kind(one.schema, schemas), one.description ?? (one.required ? "required" : "")])));
  }
  const body = operation.requestBody?.content["application/json"];
  if (body) {
    section.append(element("h4", "Body"), fields(body.schema, schemas));
    section.append(element("pre", JSON.stringify(body.examples.runs.value, null, 2)));
  }
  section.append(element("h4", "Answers"), table(["status", "what", "kinds"], Object.entries(operation.responses).map(
    ([status, answer]) => {
      const [content] = Object.values(answer.content ?? {});
      const kinds = Object.keys(content?.examples ?? {}).join(", ");
      return [element("code", status), answer.description, kinds || kind(content?.schema, schemas)];
    })));
  return section;
}

function draw(told) {
  const schemas = told.components.schemas;
  const groups = new Map();
  for (const [path, methods] of Object.entries(told.paths)) {
    for (const method of METHODS.filter((name) => methods[name])) {
      const operation = methods[method];
      const section = drawn(path, method, operation, schemas);
      const [tag] = operation.tags;
      if (!groups.has(tag)) groups.set(tag, []);
      const words = `${method} ${path} ${operation.summary}`.toLowerCase();
      groups.get(tag).push({ path, method, operation, section, words });
    }
  }
  const count = [...groups.values()].reduce((sum, group) => sum + group.length, 0);
  $("about").textContent = `${count} operations at ${told.servers[0].url}`;
  $("operations").replaceChildren(...[...groups.values()].flat().map((one) => one.section));
  const list = () => {
    const wanted = $("find").value.trim().toLowerCase();
    $("index").replaceChildren(...[...groups].flatMap(([tag, group]) => {
      const found = group.filter((one) => one.words.includes(wanted));
      group.forEach((one) => { one.section.hidden = !found.includes(one); });
      if (!found.length) return [];
      const rows = element("ul");
      rows.append(...found.map((one) => {
        const link = element("a", `${one.method.toUpperCase()} ${one.path.replace("/v1", "")}`);
        link.href = `#${one.operation.operationId}`;
        const item = element("li");
        item.append(link);
        return item;
      }));
      return [element("h2", tag), rows];
    }));
  };
  $("find").oninput = list;
  list();
  if (location.hash) document.getElementById(location.hash.slice(1))?.scrollIntoView();
}

fetch("v1/openapi.json").then((answer) => answer.json()).then(draw).catch((error) => { $("about").textContent = error.message; });
