package extauthz_test

import (
	"testing"

	"gatehouse/policies"
)

// obliging is a policy that passes on what the client calls itself.
const obliging = `package gatehouse

authz := {"allowed": true, "rule_id": "obliging", "dynamic_metadata": {"agent": input.attributes.request.http.headers["user-agent"]},
	"obligations": {"max_output_tokens": 10}}
`

// No header of a client's frees it from what the policy obliges it to.
func TestObligationsTravelWhateverTheClientSends(t *testing.T) {
	t.Parallel()
	h := newLLMHarness(t, obliging)
	for _, agent := range []string{"curl", "curl/\xff", "\xf0\x9f", "\ufffd"} {
		resp := h.check(h.ask("chat", "POST", "/openai/chat", "authorization", "Bearer "+h.issuer.Token("developer", "org1"), "user-agent", agent))
		got := resp.GetDynamicMetadata().GetFields()["obligations"].GetStructValue().AsMap()
		o, err := policies.ReadLLMObligations(got)
		if status(resp) != 200 || err != nil || o.MaxOutputTokens != 10 {
			t.Errorf("%q: %d, %v, %v", agent, status(resp), got, err)
		}
	}
}
