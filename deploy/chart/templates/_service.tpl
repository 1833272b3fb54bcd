{{/* A Service of the controller: (dict "root" $ "service" map "base" map "name" text). `base` has what `service` leaves open. */}}
{{- define "narthex.service" -}}
{{- $service := .service -}}{{- $base := .base -}}{{- $root := .root -}}
apiVersion: v1
kind: Service
metadata:
  name: {{ .name }}
  namespace: {{ include "narthex.namespace" $root }}
  labels:
    {{- include "narthex.labels" $root | nindent 4 }}
    app.kubernetes.io/component: controller
    {{- with $service.labels }}
    {{- toYaml . | nindent 4 }}
    {{- end }}
    {{- with .labels }}
    {{- toYaml . | nindent 4 }}
    {{- end }}
  {{- with $service.annotations }}
  annotations:
    {{- range $name, $value := . }}
    {{ $name }}: {{ tpl (toString $value) $root | quote }}
    {{- end }}
  {{- end }}
spec:
  type: {{ default $base.type $service.type }}
  {{- with $service.clusterIP }}
  clusterIP: {{ . }}
  {{- end }}
  {{- with $service.clusterIPs }}
  clusterIPs:
    {{- toYaml . | nindent 4 }}
  {{- end }}
  {{- with $service.externalIPs }}
  externalIPs:
    {{- toYaml . | nindent 4 }}
  {{- end }}
  {{- if eq (default $base.type $service.type) "LoadBalancer" }}
  {{- with $service.loadBalancerIP }}
  loadBalancerIP: {{ . }}
  {{- end }}
  {{- with $service.loadBalancerSourceRanges }}
  loadBalancerSourceRanges:
    {{- toYaml . | nindent 4 }}
  {{- end }}
  {{- with $service.loadBalancerClass }}
  loadBalancerClass: {{ . }}
  {{- end }}
  {{- if not $service.allocateLoadBalancerNodePorts }}
  allocateLoadBalancerNodePorts: false
  {{- end }}
  {{- end }}
  {{- with $service.externalTrafficPolicy }}
  externalTrafficPolicy: {{ . }}
  {{- end }}
  {{- with $service.sessionAffinity }}
  sessionAffinity: {{ . }}
  {{- end }}
  {{- with $service.healthCheckNodePort }}
  healthCheckNodePort: {{ . }}
  {{- end }}
  {{- with $service.trafficDistribution }}
  trafficDistribution: {{ . }}
  {{- end }}
  {{- with $service.ipFamilyPolicy }}
  ipFamilyPolicy: {{ . }}
  {{- end }}
  {{- with $service.ipFamilies }}
  ipFamilies:
    {{- toYaml . | nindent 4 }}
  {{- end }}
  ports:
    {{- range $name := list "http" "https" }}
    {{- if ternary $base.enableHttp $base.enableHttps (eq $name "http") }}
    - name: {{ $name }}
      port: {{ default (get $base.ports $name) (get $service.ports $name) }}
      targetPort: {{ default (get $base.targetPorts $name) (get $service.targetPorts $name) }}
      protocol: TCP
      {{- if $service.appProtocol }}
      appProtocol: {{ $name }}
      {{- end }}
      {{- with get $service.nodePorts $name }}
      nodePort: {{ . }}
      {{- end }}
    {{- end }}
    {{- end }}
    {{- range $kind := list "tcp" "udp" }}
    {{- range $port, $_ := get $root.Values $kind }}
    {{- $name := printf "%s-%s" (toString $port) $kind }}
    {{- if $root.Values.portNamePrefix }}{{ $name = printf "%s-%s" $root.Values.portNamePrefix $name }}{{ end }}
    - name: {{ $name }}
      port: {{ $port }}
      targetPort: {{ $name }}
      protocol: {{ upper $kind }}
      {{- with get (default dict (get $service.nodePorts $kind)) (toString $port) }}
      nodePort: {{ . }}
      {{- end }}
    {{- end }}
    {{- end }}
  selector:
    {{- include "narthex.selector" $root | nindent 4 }}
    app.kubernetes.io/component: controller
{{- end -}}
