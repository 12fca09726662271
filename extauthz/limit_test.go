package extauthz

import (
	"slices"
	"testing"

	"gatehouse/internal/request"
)

func TestNetwork(t *testing.T) {
	t.Parallel()
	for address, want := range map[string]string{
		"192.0.2.1": "192.0.2.1", "2001:db8::1": "2001:db8::/64", "2001:db8:0:0:ffff::3": "2001:db8::/64", "2001:db8:0:1::": "2001:db8:0:1::/64",
		"::ffff:192.0.2.1": "::ffff:192.0.2.1", "fe80::1%eth0": "fe80::/64", "": "", "/run/app.sock": "/run/app.sock",
	} {
		if got := network(address); got != want {
			t.Errorf("%q: got %s, want %s", address, got, want)
		}
	}
}

// Whoever has no name is counted by network, and whoever is counted by address.
func TestAddressesInKeys(t *testing.T) {
	t.Parallel()
	named := request.Principal{Kind: request.KindToken, Issuer: "main", Subject: "alice"}
	for name, c := range map[string]struct {
		by   string
		p    request.Principal
		want []string
	}{
		"anonymous":          {"principal", request.Anonymous(), []string{"anonymous", "2001:db8::/64"}},
		"named":              {"principal", named, []string{"token", "main", "alice"}},
		"by address":         {"address", request.Anonymous(), []string{"2001:db8::/64"}},
		"named, by address ": {"address", named, []string{"2001:db8::/64"}},
	} {
		k := &check{in: &envoyRequest{}}
		k.Principal, k.in.Source.Address = c.p, "2001:db8::7"
		if got := k.appendKey(nil, c.by); !slices.Equal(got, c.want) {
			t.Errorf("%s: got %q, want %q", name, got, c.want)
		}
	}
}
