package token

import (
	"context"
	"strings"
	"testing"
	"time"
)

func BenchmarkVerifyCached(b *testing.B) {
	is := newIssuerFor(b, "EdDSA")
	v, _, _ := newVerifier(b, is, nil)
	now := time.Now()
	raw := is.Mint(is.Claims(now, "developer", "acme"))
	b.ReportAllocs()
	for b.Loop() {
		if _, err := v.Verify(context.Background(), now, raw); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkVerifyUncached(b *testing.B) {
	is := newIssuerFor(b, "EdDSA")
	v, _, _ := newVerifier(b, is, nil)
	now := time.Now()
	raw := is.Mint(is.Claims(now, "developer", "acme"))
	b.ReportAllocs()
	for b.Loop() {
		if _, err := v.verify(context.Background(), now, raw); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkRecognize(b *testing.B) {
	is := newIssuerFor(b, "EdDSA")
	v, _, _ := newVerifier(b, is, nil)
	claims := is.Claims(time.Now(), "developer", "acme")
	ours := is.Mint(claims)
	claims["iss"] = "https://elsewhere.example"
	for name, value := range map[string]string{
		"key": "sk-ant-api03-" + strings.Repeat("x", 90), "ours": ours, "foreign": is.Mint(claims),
	} {
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				if v.Recognize(value) != (name == "ours") {
					b.Fatal("wrong")
				}
			}
		})
	}
}
