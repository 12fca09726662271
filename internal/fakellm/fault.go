package fakellm

import "net/http"

// object is a JSON object.
type object map[string]any

// fault is an error that the provider reports.
type fault struct {
	status  int
	code    string // OpenAI's; "" means null
	message string
}

func invalid(message string) *fault {
	return &fault{status: http.StatusBadRequest, message: message}
}

func unknownModel(name string) *fault {
	return &fault{status: http.StatusNotFound, code: "model_not_found", message: "The model '" + name + "' does not exist."}
}

// scripted is the fault of error-S.
func scripted(status int) *fault {
	f := &fault{status: status, message: "The model was asked for this error."}
	switch status {
	case http.StatusUnauthorized:
		f.code = "invalid_api_key"
	case http.StatusTooManyRequests:
		f.code = "rate_limit_exceeded"
	}
	return f
}

// document is the fault as the provider writes it, also within a stream.
func (f *fault) document(s shape, id string) object {
	if s == anthropic {
		return object{"type": "error", "request_id": id, "error": object{"type": f.anthropicType(), "message": f.message}}
	}
	var code any
	if f.code != "" {
		code = f.code
	}
	return object{"error": object{"message": f.message, "type": f.openaiType(), "param": nil, "code": code}}
}

func (f *fault) openaiType() string {
	switch {
	case f.status == http.StatusTooManyRequests:
		return "requests"
	case f.status >= http.StatusInternalServerError:
		return "server_error"
	}
	return "invalid_request_error"
}

// statusOverloaded is Anthropic's.
const statusOverloaded = 529

func (f *fault) anthropicType() string {
	switch f.status {
	case http.StatusUnauthorized:
		return "authentication_error"
	case http.StatusForbidden:
		return "permission_error"
	case http.StatusNotFound:
		return "not_found_error"
	case http.StatusRequestEntityTooLarge:
		return "request_too_large"
	case http.StatusTooManyRequests:
		return "rate_limit_error"
	case http.StatusGatewayTimeout:
		return "timeout_error"
	case statusOverloaded:
		return "overloaded_error"
	}
	if f.status >= http.StatusInternalServerError {
		return "api_error"
	}
	return "invalid_request_error"
}
