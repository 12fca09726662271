package fakellm

import (
	"bufio"
	"context"
	"encoding/json"
	"net"
	"net/http"
	"testing"
)

func listen(t *testing.T) net.Listener {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	return l
}

// TestServe ends with an answer under way.
func TestServe(t *testing.T) {
	t.Parallel()
	provider, control := listen(t), listen(t)
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- Serve(ctx, testKeys, provider, control) }()
	base := "http://" + provider.Addr().String()
	resp, err := http.DefaultClient.Do(ask{shape: openAI, model: "slow-100000-10", stream: true, id: "s"}.request(t.Context(), base))
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	if _, err := bufio.NewReader(resp.Body).ReadString('\n'); err != nil {
		t.Error(err)
	}
	if l := askLedger(t, control); l.Requests["s"].Prompt != askedWords || l.Totals.Calls != 1 {
		t.Errorf("the ledger says %+v", l)
	}
	cancel()
	if err := <-ended; err != nil {
		t.Errorf("Serve: %v", err)
	}
}

func askLedger(t *testing.T, l net.Listener) Ledger {
	t.Helper()
	resp, err := http.Get("http://" + l.Addr().String() + "/_fake/ledger")
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	var ledger Ledger
	if err := json.NewDecoder(resp.Body).Decode(&ledger); err != nil {
		t.Fatal(err)
	}
	return ledger
}

func TestServeFailsWithItsListener(t *testing.T) {
	t.Parallel()
	provider, control := listen(t), listen(t)
	_ = provider.Close()
	if err := Serve(t.Context(), testKeys, provider, control); err == nil {
		t.Error("Serve on a closed listener: no error")
	}
}
