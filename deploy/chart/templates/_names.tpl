{{/* Names and labels as the ingress-nginx chart gives them, so that an upgrade to this chart keeps the objects. */}}
{{- define "narthex.name" -}}
{{- default "ingress-nginx" .Values.nameOverride | trunc 63 | trimSuffix "-" -}}
{{- end -}}

{{- define "narthex.fullname" -}}
{{- $name := include "narthex.name" . -}}
{{- if .Values.fullnameOverride -}}
{{- .Values.fullnameOverride | trunc 63 | trimSuffix "-" -}}
{{- else if contains $name .Release.Name -}}
{{- .Release.Name | trunc 63 | trimSuffix "-" -}}
{{- else -}}
{{- printf "%s-%s" .Release.Name $name | trunc 63 | trimSuffix "-" -}}
{{- end -}}
{{- end -}}

{{- define "narthex.namespace" -}}
{{- default .Release.Namespace .Values.namespaceOverride -}}
{{- end -}}

{{- define "narthex.controller" -}}
{{- printf "%s-%s" (include "narthex.fullname" .) .Values.controller.name | trunc 63 | trimSuffix "-" -}}
{{- end -}}

{{- define "narthex.backend" -}}
{{- printf "%s-%s" (include "narthex.fullname" .) .Values.defaultBackend.name | trunc 63 | trimSuffix "-" -}}
{{- end -}}

{{- define "narthex.admission" -}}
{{- printf "%s-%s" (include "narthex.fullname" .) .Values.controller.admissionWebhooks.name | trunc 63 | trimSuffix "-" -}}
{{- end -}}

{{- define "narthex.serviceAccount" -}}
{{- if .Values.serviceAccount.create -}}
{{- default (include "narthex.fullname" .) .Values.serviceAccount.name -}}
{{- else -}}
{{- default "default" .Values.serviceAccount.name -}}
{{- end -}}
{{- end -}}

{{- define "narthex.backendServiceAccount" -}}
{{- if .Values.defaultBackend.serviceAccount.create -}}
{{- default (printf "%s-backend" (include "narthex.fullname" .)) .Values.defaultBackend.serviceAccount.name -}}
{{- else -}}
{{- default "default" .Values.defaultBackend.serviceAccount.name -}}
{{- end -}}
{{- end -}}

{{- define "narthex.election" -}}
{{- default (printf "%s-leader" (include "narthex.fullname" .)) .Values.controller.electionID -}}
{{- end -}}

{{- define "narthex.selector" -}}
app.kubernetes.io/name: {{ include "narthex.name" . }}
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end -}}

{{- define "narthex.labels" -}}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version }}
{{ include "narthex.selector" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/part-of: {{ include "narthex.name" . }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
{{- with .Values.commonLabels }}
{{ toYaml . }}
{{- end }}
{{- end -}}

{{/* Image of (dict "root" $ "image" map). */}}
{{- define "narthex.image" -}}
{{- $image := .image -}}
{{- $name := $image.repository -}}
{{- if not $name -}}
{{- $registry := default .root.Values.global.image.registry $image.registry -}}
{{- $name = ternary (printf "%s/%s" $registry $image.image) $image.image (ne $registry "") -}}
{{- end -}}
{{- $tag := default .root.Chart.AppVersion $image.tag -}}
{{- if contains "ingress-nginx/controller" $name -}}
{{- fail "controller.image names the image of ingress-nginx: remove controller.image from your values, or name the image of narthex" -}}
{{- end -}}
{{- if $image.digest -}}
{{- printf "%s:%s@%s" $name $tag $image.digest -}}
{{- else -}}
{{- printf "%s:%s" $name $tag -}}
{{- end -}}
{{- end -}}

{{/* Security context of a container: (dict "image" map "given" map "ports" bool). */}}
{{- define "narthex.securityContext" -}}
{{- if .given -}}
{{- toYaml .given -}}
{{- else -}}
runAsNonRoot: {{ .image.runAsNonRoot }}
runAsUser: {{ .image.runAsUser }}
runAsGroup: {{ .image.runAsGroup }}
allowPrivilegeEscalation: {{ .image.allowPrivilegeEscalation }}
{{- with .image.seccompProfile }}
seccompProfile:
  {{- toYaml . | nindent 2 }}
{{- end }}
readOnlyRootFilesystem: {{ .image.readOnlyRootFilesystem }}
capabilities:
  drop: [ALL]
  {{- if .ports }}
  add: [NET_BIND_SERVICE]
  {{- end }}
{{- end -}}
{{- end -}}
