package llm

import "testing"

// What stands in a chunk only because we asked for usage is not passed on.
func TestNullUsageIsRemoved(t *testing.T) {
	t.Parallel()
	const choice = `"choices":[{"index":0,"delta":{"content":"a"}}]`
	for sent, want := range map[string]string{
		`{"usage":null,` + choice + `}`:                `{` + choice + `}`,
		`{` + choice + `,"usage":null}`:                `{` + choice + `}`,
		`{` + choice + ` , "usage" : null }`:           `{` + choice + `  }`,
		`{"a":1,"usage":null,` + choice + `}`:          `{"a":1,` + choice + `}`,
		`{"a":1, "us\u0061ge":null ,` + choice + `}`:   `{"a":1, ` + choice + `}`,
		`{` + choice + `,"usage":{"prompt_tokens":1}}`: `{` + choice + `,"usage":{"prompt_tokens":1}}`,
	} {
		for _, hide := range []bool{true, false} {
			s, err := NewStream(OpenAI, StreamOptions{HideUsage: hide})
			if err != nil {
				t.Fatal(err)
			}
			if ev := s.Next(Frame{HasData: true, Data: []byte(sent)}); ev.Kind != EventData || ev.Remove {
				t.Fatalf("%s: %+v", sent, ev)
			}
			got, err := s.Append(nil, nil)
			expect := want
			if !hide {
				expect = sent
			}
			if err != nil || string(got) != "data: "+expect+"\n\n" {
				t.Errorf("hide %v: %s became %s, want %s; %v", hide, sent, got, expect, err)
			}
		}
	}
}
