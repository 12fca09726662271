#!/usr/bin/env bash
# smoke.sh [API_URL] asks a control service what it must answer, one line a
# check, and ends with 1 if any fails. Without an address it starts a system of
# its own. The service must have the users of `gatehouse dev`. What it creates
# it deletes again. Needs bash, curl and python3.
set -uo pipefail

readonly seconds=20 # that one answer may take
readonly tries=3    # of a request that a rate limit refuses
readonly waits=15   # seconds at most between two of these

if (($# == 0)); then exec "$(dirname "${BASH_SOURCE[0]}")/with-dev.sh" "${BASH_SOURCE[0]}"; fi
api=${1%/}
tmp=$(mktemp -d)
trap 'rm -rf "$tmp"' EXIT
passed=0 failed=0 status=0

pass() { passed=$((passed + 1)); echo "PASS $1"; }
fail() { failed=$((failed + 1)); echo "FAIL $1: $2"; }
came() { echo "$status $(head -c 300 "$tmp/body" | tr -d '\r\n')"; }

# ask CURL-ARG... asks once; status, $tmp/head and $tmp/body are the answer.
ask() {
  : >"$tmp/head" >"$tmp/body"
  status=$(curl -sS --max-time "$seconds" -D "$tmp/head" -o "$tmp/body" -w '%{http_code}' "$@" 2>"$tmp/error") || true
}

# call METHOD PATH [CURL-ARG...] asks, and again where a rate limit says when.
call() {
  local method=$1 path=$2 wait
  shift 2
  for ((i = 1; i <= tries; i++)); do
    ask -X "$method" "$@" "$api$path"
    wait=$(sed -nE 's/^retry-after: ([0-9]+)\r?$/\1/Ip' "$tmp/head")
    if [[ $status != 429 || -z $wait ]] || ((wait > waits || i == tries)); then return; fi
    sleep "$wait"
  done
}
send() { call "$1" "$2" -H 'content-type: application/json' --data-binary "$3" "${@:4}"; }

# holds EXPRESSION is whether a Python expression is true of the answer: b is its
# JSON, h its headers by names in lower case, want what stands behind EXPRESSION.
holds() {
  python3 - "$tmp" "$@" 2>"$tmp/error" <<'PY'
import json, sys
tmp, expression, *want = sys.argv[1:]
lines = open(tmp + "/head", encoding="latin-1").read().splitlines()
h = {n.strip().lower(): v.strip() for n, _, v in (l.partition(":") for l in lines[1:])}
text = open(tmp + "/body", encoding="utf-8").read()
b = json.loads(text) if text and "json" in h.get("content-type", "") else None
sys.exit(0 if eval(expression) else 1)
PY
}

# expect NAME STATUS [EXPRESSION [WANT...]] judges the answer of the last call.
# STATUS is a regular expression.
expect() {
  local name=$1 want=$2
  shift 2
  if [[ ! $status =~ ^($want)$ ]]; then fail "$name" "want $want: $(came)"; return; fi
  if (($#)) && ! holds "$@"; then fail "$name" "not $1: $(came)"; return; fi
  pass "$name"
}
refused() { expect "$1" "$2" 'b["error_code"] == want[0] and b["message"] and b["request_id"] == h["x-request-id"]' "$3"; }
quoted() { python3 -c 'import json, sys; print(json.dumps(sys.argv[1]))' "$1"; }
escaped() { python3 -c 'import sys, urllib.parse; print(urllib.parse.quote(sys.argv[1], safe=""))' "$1"; }
member() { python3 -c 'import json, sys; print(json.load(open(sys.argv[1]))[sys.argv[2]])' "$tmp/body" "$1" 2>/dev/null; }
login() { send POST /api/v1/auth/login "{\"username\": $(quoted "$1"), \"password\": $(quoted "$2")}"; }

injections=("' OR '1'='1' --" "admin' --" "'; DROP TABLE users; --" "' UNION SELECT NULL, version() --" '1) OR (1=1' "x'||pg_sleep(10)||'")

check_service() {
  call GET /health
  expect health 200 'b == {"status": "ok", "database": "ok"}'
  expect 'security headers' 200 'h["x-content-type-options"] == "nosniff" and h["referrer-policy"] == "no-referrer" and h["cache-control"] == "no-store"'
  expect 'content security policy' 200 'h["content-security-policy"] == want[0]' "default-src 'none'; frame-ancestors 'none'"
  expect 'no word of the software' 200 'not {"server", "x-powered-by"} & set(h)'
  call GET /api/v1/health
  expect 'health of v1' 200 'b == {"status": "ok", "database": "ok"}'
  call GET /readyz
  expect ready 200 'b == {"status": "ready"}'
  call GET /.well-known/jwks.json
  expect 'key set' 200 'b["keys"] and all(k["kty"] and k["kid"] for k in b["keys"])'
  expect 'key set has no private member' 200 'not {"d", "p", "q", "dp", "dq", "qi", "oth", "k"} & {m for k in b["keys"] for m in k}'
  call GET /health -H 'x-request-id: smoke-1'
  expect 'request id is kept' 200 'h["x-request-id"] == "smoke-1"'
}

# check_logins leaves the tokens in admin, operator and observer.
check_logins() {
  local user tenant
  for user in admin operator developer observer; do
    tenant=org1
    if [[ $user == admin ]]; then tenant='*'; fi
    login "$user" "${user}123"
    expect "login of $user" 200 '[b["role"], b["tenant_id"]] == want and b["token_type"] == "Bearer" and b["expires_in"] > 0' "$user" "$tenant"
    if [[ $user == admin ]]; then admin="authorization: Bearer $(member access_token)"; fi
    if [[ $user == operator ]]; then operator="authorization: Bearer $(member access_token)"; fi
    if [[ $user == observer ]]; then observer="authorization: Bearer $(member access_token)"; fi
  done
}

check_root() {
  local link links
  call GET / -H "$admin"
  expect root 200 'b["name"] == "gatehouse" and b["version"] and {"health", "ready", "document", "key_set", "login"} <= set(b["links"])'
  links=$(python3 -c 'import json, sys; print(*(v for k, v in json.load(open(sys.argv[1]))["links"].items() if k != "login"))' "$tmp/body" 2>/dev/null)
  for link in $links; do
    call GET "$link" -H "$admin"
    expect "root leads to $link" 200
  done
  call GET /api/v1/openapi.json -H "$admin"
  expect 'document is OpenAPI 3.1' 200 'b["openapi"].startswith("3.1.") and b["info"]["title"] and {"/health", "/api/v1/auth/login", "/api/v1/users"} <= set(b["paths"])'
  call GET /api/v1/stats -H "$admin"
  expect stats 200 'b["users"] >= 4 and b["tenants"] >= 2 and b["projects"] >= 2 and b["uptime_seconds"] >= 0'
}

check_governance() {
  local defaults='architect: 2 43200 True, developer: 5 7200 False, reviewer: 3 14400 False, security: 1 86400 True, tester: 5 7200 False'
  call GET /api/v1/governance/status -H "$admin"
  expect 'governance status' 200 '", ".join(sorted("{agent_role}: {daily_limit} {cooldown_seconds} {requires_approval}".format(**i) for i in b["items"])) == want[0]' "$defaults"
}

# check_breakers asks for what may be empty: who breaks an upstream is not here.
check_breakers() {
  call GET /api/v1/circuit-breakers -H "$observer"
  expect 'breakers: listed' 200 'isinstance(b["items"], list)'
  call GET /api/v1/circuit-breakers/no-such-upstream -H "$observer"
  refused 'breakers: unknown' 404 resource.not_found
  call POST /api/v1/circuit-breakers/no-such-upstream/reset -H "$operator"
  refused 'breakers: who may not reset' 403 auth.forbidden
  call POST /api/v1/circuit-breakers/reset_all -H "$admin"
  expect 'breakers: all reset' 200
}

# check_budget makes a limit of a month, where there is none, and takes it away.
check_budget() {
  local id=smoke-$$-$RANDOM limit hold
  send POST /api/v1/budget/limits '{"tenant_id": "org1", "project_id": "proj1", "window": "month", "tokens": 1000000000}' -H "$admin"
  limit=$(member id)
  hold="{\"request_id\": \"$id\", \"tenant_id\": \"org1\", \"project_id\": \"proj1\", \"estimated_tokens\": 100}"
  send POST /api/v1/budget/request "$hold" -H "$operator"
  send POST /api/v1/budget/request "$hold" -H "$operator"
  expect 'budget: asked twice, held once' 201 'b["reserved_tokens"] == 100 and b["state"] == "held" and h["idempotent-replayed"] == "true"'
  call GET '/api/v1/budget/state?project_id=proj1' -H "$observer"
  expect 'budget: the state adds up' 200 'b["items"] and all(i["used"] + i["reserved"] <= i["ceiling"] for i in b["items"]) and any(i["reserved"] >= 100 and i["used"] + i["reserved"] + i["available"] == i["limit"] for i in b["items"])'
  send POST /api/v1/budget/commit "{\"request_id\": \"$id\", \"actual_tokens\": 40}" -H "$operator"
  expect 'budget: what was not used is given back' 200 '[b["state"], b["charged_tokens"], b["returned_tokens"], b["late"]] == ["committed", 40, 60, False]'
  if [[ -n $limit ]]; then call DELETE "/api/v1/budget/limits/$limit?tenant_id=org1" -H "$admin"; fi
}

check_llm() {
  local good='{"decision": "approve", "confidence": 1, "reasoning": "ok"}' bad='{"decision": "maybe", "confidence": 2}'
  send POST /api/v1/llm/sanitize '{"text": "Run: DROP TABLE users;", "context": "prose"}' -H "$operator"
  expect 'llm: a statement is defanged' 200 'b["text"] == "Run: DROP(!) TABLE users;" and not b["blocked"] and [(f["class"], f["offset"]) for f in b["findings"]] == [("destructive_sql", 5)]'
  send POST /api/v1/llm/sanitize '{"text": "{\"id\": \"1 OR 1=1\"}", "context": "tool_call"}' -H "$operator"
  expect 'llm: a break-out in a call is blocked' 200 'b["blocked"] and "1=1" not in b["text"] and b["findings"][0]["class"] == "sql_breakout"'
  send POST /api/v1/llm/sanitize '{"text": "x", "context": "html"}' -H "$operator"
  refused 'llm: unknown context' 422 validation.invalid
  send POST /api/v1/llm/sanitize '{"text": "x", "context": "prose"}' -H "$observer"
  refused 'llm: who may not create tasks' 403 auth.forbidden
  send POST /api/v1/llm/parse/consensus "{\"text\": $(quoted "Here: $good")}" -H "$operator"
  expect 'llm: an answer is parsed' 200 'b == {"kind": "consensus", "value": json.loads(want[0])}' "$good"
  send POST /api/v1/llm/parse/consensus "{\"text\": $(quoted "$bad")}" -H "$operator"
  expect 'llm: all faults of an answer' 422 '[e["pointer"] for e in b["details"]["errors"]] == ["/decision", "/confidence", "/reasoning"]'
  send POST /api/v1/llm/parse/haiku '{"text": "x"}' -H "$operator"
  refused 'llm: unknown structure' 404 resource.not_found
}

# check_refusals logs in as a user of its own: failures count against the account.
check_refusals() {
  local user=smoke-$$-$RANDOM path right
  send POST /api/v1/users "{\"username\": \"$user\", \"password\": \"a password for smoke\", \"role\": \"observer\", \"tenant_id\": \"org1\"}" -H "$admin"
  expect 'create a user' 201 'b["username"] == want[0] and h["location"] == "/api/v1/users/" + b["id"] and h["etag"] == "\"1\""' "$user"
  path=/api/v1/users/$(member id)
  login "$user" 'a wrong password'
  refused 'wrong password' 401 auth.invalid_credentials
  right=$(member message)
  login "$user-nobody" 'a wrong password'
  expect 'unknown user is answered alike' 401 'b["error_code"] == "auth.invalid_credentials" and b["message"] == want[0] and set(b) == {"error_code", "message", "request_id"}' "$right"
  call DELETE "$path" -H "$admin"
  expect 'delete the user' 204
  login "$user" 'a password for smoke'
  refused 'a deleted user' 401 auth.invalid_credentials
}

check_permissions() {
  call GET /api/v1/users -H "$observer"
  refused "observer can't list users" 403 auth.forbidden
  call GET /api/v1/stats -H "$observer"
  expect 'observer may see stats' 200
  call GET /api/v1/users
  refused 'no token' 401 auth.missing_token
  expect 'no token: how to authenticate' 401 'h["www-authenticate"].startswith("Bearer")'
  call GET /api/v1/users -H 'authorization: Bearer e30.e30.e30'
  refused 'bad token' 401 auth.invalid_token
}

check_requests() {
  call GET /api/v1/no-such-path -H "$admin"
  refused 'unknown path' 404 resource.not_found
  call GET /api/v1/no-such-path -H "$admin" -H 'accept: application/problem+json'
  expect 'unknown path as a problem' 404 'h["content-type"] == "application/problem+json" and b["status"] == 404 and b["error_code"] == "resource.not_found" and b["type"] and b["title"]'
  call DELETE /health
  refused 'wrong method' 405 validation.method_not_allowed
  expect 'wrong method: the right ones' 405 '"GET" in h["allow"]'
  head -c 1100000 /dev/zero | tr '\0' ' ' >"$tmp/large"
  send POST /api/v1/users "@$tmp/large" -H "$admin" -H 'expect:'
  refused 'body too large' 413 validation.too_large
  send POST /api/v1/users '{"username": ' -H "$admin"
  refused 'body is no JSON' 400 validation.malformed
  send POST /api/v1/users '{"username": "x", "more": 1}' -H "$admin"
  refused 'body with an unknown member' 422 validation.invalid
  call POST /api/v1/users -H "$admin" -H 'content-type: text/plain' --data x
  refused 'body of another type' 415 validation.unsupported_media_type
  send POST /api/v1/agents '{"tenant_id": "org1", "name": "smoke", "role": "tester", "metadata": {"a": "\u0000"}}' -H "$admin"
  refused 'text that the database cannot hold' 422 validation.invalid
  tail_opens
}

# tail_opens cuts the stream after a second: that curl says so is no fault.
tail_opens() {
  ask --max-time 1 -H "$admin" "$api/api/v1/decisions/tail"
  expect 'tail of decisions opens' 200 'h["content-type"].startswith("text/event-stream")'
}

check_injections() {
  local text at before
  call GET /api/v1/stats -H "$admin"
  before=$(member users)
  for text in "${injections[@]}"; do
    login "$text" "$text"
    expect "injection: login as $text" '401|422'
    at=$(escaped "$text")
    for path in "users?cursor=$at" "users?tenant_id=$at" "agents?limit=$at" "decisions?sidecar_id=$at" "users/$at" "tenants/$at" "decisions/$at"; do
      call GET "/api/v1/$path" -H "$admin"
      expect "injection: ${path%%[=/]*} $text" '4[0-9][0-9]' 'b["error_code"] in ("validation.invalid", "resource.not_found")'
    done
    # Any text may be the name of a subject: it must find nothing.
    call GET "/api/v1/decisions?subject=$at" -H "$admin"
    expect "injection: decisions?subject $text" 200 'b == {"items": []}'
  done
  call GET /api/v1/stats -H "$admin"
  expect 'injection: nobody came or went' 200 'str(b["users"]) == want[0]' "$before"
  for path in users tenants projects clients agents decisions; do
    call GET "/api/v1/$path?limit=200" -H "$admin"
    expect "injection: $path are still there" 200 '"items" in b and (want[0] not in ("users", "tenants", "projects") or b["items"])' "$path"
  done
}

admin='' operator='' observer=''
check_service
check_logins
check_root
check_governance
check_budget
check_breakers
check_llm
check_refusals
check_permissions
check_requests
check_injections
echo "$passed passed, $failed failed"
((failed == 0))
