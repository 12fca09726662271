package sanitize

// Finding is one match.
type Finding struct {
	Class  Class  `json:"class"`
	Rule   string `json:"rule"`   // what of the class it is, such as drop or event_handler
	Action Action `json:"action"` // what was done
	Offset int    `json:"offset"` // bytes of the text before it
	Length int    `json:"length"` // bytes of the text that it took to see it; 0 where it is one point
	Fenced bool   `json:"fenced"` // it stood in a fence of Markdown, where matches are only flagged
}

// MaxFindings bounds the findings that one Stream reports. Those beyond are
// acted on all the same.
const MaxFindings = 256

// The rules.
const (
	ruleDrop      = "drop"
	ruleTruncate  = "truncate"
	ruleDelete    = "delete"
	ruleAlterDrop = "alter_drop"
	ruleTag       = "tag"
	ruleHandler   = "event_handler"
	ruleScript    = "script_url"
	ruleDataURL   = "data_url"
	ruleSource    = "image_source"
	ruleImage     = "image"
	ruleReference = "image_reference"
	ruleControl   = "control_character"
	ruleTerminal  = "terminal_escape"
	ruleBidi      = "bidi_override"
	ruleEncoding  = "invalid_utf8"
	ruleLong      = "overlong_escape"
	ruleTagChar   = "tag_character"
	ruleOpenFence = "open_fence"
	ruleLink      = "link"
	ruleTautology = "tautology"
	ruleSubquery  = "subquery"
	ruleComment   = "comment_end"
	ruleStacked   = "stacked"
	ruleUnion     = "union_select"
	ruleChained   = "chained_command"
	rulePipe      = "pipe_to_shell"
	ruleSubst     = "command_substitution"
	rulePath      = "parent_path"
	ruleEncoded   = "encoded_path"
	ruleTarget    = "system_path"
)
